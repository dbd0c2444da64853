import { create } from "@bufbuild/protobuf";
import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import {
	StoreAccessSchema,
	type StoreConfig,
	StoreConfigSchema,
	type StoreQuota,
	StoreQuotaSchema,
} from "#gen/qirvo/hub/v1/stores_pb.js";

const DEFAULT_KEYS = 100_000n;
const DEFAULT_BYTES = 256n * 1024n * 1024n;

/**
 * A configuration, within its bounds, with every default filled in: what a store is kept and shown with. `persistent` is what
 * counts where the configuration does not say.
 */
export function fillStoreConfig(config: StoreConfig | undefined, persistent: boolean = true): StoreConfig {
	const asked = config ?? create(StoreConfigSchema);
	const quota = fillQuota(asked.quota);
	const ttlMs = asked.defaultTtl === undefined ? 0 : Math.ceil(durationMs(asked.defaultTtl));
	return create(StoreConfigSchema, {
		persistent: asked.persistent ?? persistent,
		read: asked.read ?? create(StoreAccessSchema),
		write: asked.write ?? create(StoreAccessSchema),
		admin: asked.admin ?? create(StoreAccessSchema),
		validators: asked.validators,
		quota,
		pluginQuota: asked.pluginQuota === undefined ? quota : fillQuota(asked.pluginQuota),
		...(ttlMs > 0 && { defaultTtl: durationFromMs(ttlMs) }),
		history: Math.max(1, asked.history),
		description: asked.description,
	});
}

function fillQuota(quota: StoreQuota | undefined): StoreQuota {
	return create(StoreQuotaSchema, { keys: quota?.keys || DEFAULT_KEYS, bytes: quota?.bytes || DEFAULT_BYTES });
}
