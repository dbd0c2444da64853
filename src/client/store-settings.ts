import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { TrustLevel } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import {
	type Store,
	type StoreAccess,
	type StoreConfig,
	StoreConfigSchema,
	type StoreQuota,
	type StoreValidator,
	type StoreValidatorSchema,
} from "#gen/qirvo/hub/v1/stores_pb.js";
import { durationMs, toDate, toDuration } from "./durations.ts";

/** Least first. */
export type StoreTrust = "untrusted" | "basic" | "trusted" | "verified";

/** Whom a list admits beside the owner: plugins that `plugins` or `categories` name and whose trust is high enough. */
export interface StoreAccessList {
	/** Plugin ids, or `*`. */
	readonly plugins?: readonly string[];
	/** Categories of registered plugins. */
	readonly categories?: readonly string[];
	/** Default: any. */
	readonly minTrust?: StoreTrust;
}

/** What every value must be like. Exactly one of `jsonSchema`, `cel` and `function`. */
export interface StoreRule {
	/** Names it in errors. */
	readonly name: string;
	/** Keys that it looks at. Default: every key. */
	readonly glob?: string;
	/** A JSON Schema (draft 2020-12), as an object or as JSON text. */
	readonly jsonSchema?: object | string;
	/** A CEL expression that must be true, over `key`, `value`, `old_value`, `exists` and `writer`. */
	readonly cel?: string;
	/** A validator that the hub's embedder registered under this name. */
	readonly function?: string;
}

export interface StoreBounds {
	/** Entries. Default 100,000. */
	readonly keys?: number;
	/** Bytes of keys and values. Default 256 MiB. */
	readonly bytes?: number;
}

/** How a store behaves. */
export interface StoreSettings {
	/** Whether its entries outlive the hub's process. Default true; cannot be changed later. */
	readonly persistent?: boolean;
	/** Who may read beside the owner. Default: nobody. */
	readonly read?: StoreAccessList;
	/** Who may write and delete entries beside the owner. Default: nobody. */
	readonly write?: StoreAccessList;
	/** Who may change these settings beside the owner. Default: nobody. */
	readonly admin?: StoreAccessList;
	/** At most 8. */
	readonly validators?: readonly StoreRule[];
	/** Of the whole store. */
	readonly quota?: StoreBounds;
	/** Of what one plugin has written of it. Default: those of the store. */
	readonly pluginQuota?: StoreBounds;
	/** Milliseconds that an entry lives where its writer does not say. Default 0: for ever. */
	readonly defaultTtl?: number;
	/** Versions of each key that are kept, the present one included, at most 64. Default 1. */
	readonly history?: number;
	/** For people. */
	readonly description?: string;
}

/** A store as it is. */
export interface StoreInfo {
	readonly name: string;
	readonly owner: string;
	/** With every default filled in. */
	readonly settings: StoreSettings;
	/** Names this life of the store. */
	readonly epoch: string;
	readonly createTime: Date | undefined;
	readonly updateTime: Date | undefined;
	/** Grows with every change of the settings or the owner. */
	readonly revision: bigint;
	readonly usage: { readonly keys: number; readonly bytes: number };
}

/** In the words of the contract. Throws a TypeError on a validator without a rule. */
export function toStoreConfig(settings: StoreSettings): StoreConfig {
	const {
		persistent,
		read,
		write,
		admin,
		validators = [],
		quota,
		pluginQuota,
		defaultTtl,
		history,
		description,
	} = settings;
	return create(StoreConfigSchema, {
		...(persistent !== undefined && { persistent }),
		...(read && { read: toAccess(read) }),
		...(write && { write: toAccess(write) }),
		...(admin && { admin: toAccess(admin) }),
		validators: validators.map(toValidator),
		...(quota && { quota: toQuota(quota) }),
		...(pluginQuota && { pluginQuota: toQuota(pluginQuota) }),
		...(defaultTtl !== undefined && { defaultTtl: toDuration(defaultTtl) }),
		history: history ?? 0,
		description: description ?? "",
	});
}

export function storeInfo(store: Store | undefined): StoreInfo {
	const { name = "", owner = "", config, epoch = "", createTime, updateTime, revision = 0n, usage } = store ?? {};
	return {
		name,
		owner,
		settings: config ? toSettings(config) : {},
		epoch,
		createTime: createTime && toDate(createTime),
		updateTime: updateTime && toDate(updateTime),
		revision,
		usage: { keys: Number(usage?.keys ?? 0n), bytes: Number(usage?.bytes ?? 0n) },
	};
}

function toSettings(config: StoreConfig): StoreSettings {
	return {
		persistent: config.persistent ?? true,
		read: ofAccess(config.read),
		write: ofAccess(config.write),
		admin: ofAccess(config.admin),
		validators: config.validators.map(ofValidator),
		quota: ofQuota(config.quota),
		pluginQuota: ofQuota(config.pluginQuota),
		defaultTtl: config.defaultTtl ? durationMs(config.defaultTtl) : 0,
		history: config.history,
		description: config.description,
	};
}

const TRUST: readonly StoreTrust[] = ["untrusted", "basic", "trusted", "verified"];
const LEVELS: Readonly<Record<StoreTrust, TrustLevel>> = {
	untrusted: TrustLevel.UNTRUSTED,
	basic: TrustLevel.BASIC,
	trusted: TrustLevel.TRUSTED,
	verified: TrustLevel.VERIFIED,
};

function toAccess({ plugins = [], categories = [], minTrust }: StoreAccessList) {
	return {
		plugins: [...plugins],
		categories: [...categories],
		minTrustLevel: minTrust === undefined ? TrustLevel.UNSPECIFIED : LEVELS[minTrust],
	};
}

function ofAccess(access: StoreAccess | undefined): StoreAccessList {
	const { plugins = [], categories = [], minTrustLevel } = access ?? {};
	const minTrust = TRUST.find((trust) => LEVELS[trust] === minTrustLevel);
	return { plugins, categories, ...(minTrust && { minTrust }) };
}

function toValidator(rule: StoreRule): MessageInitShape<typeof StoreValidatorSchema> {
	const { name, glob = "", jsonSchema, cel, function: registered } = rule;
	const common = { name, keyGlob: glob };
	if (jsonSchema !== undefined) {
		const value = typeof jsonSchema === "string" ? jsonSchema : JSON.stringify(jsonSchema);
		return { ...common, rule: { case: "jsonSchema", value } };
	}
	if (cel !== undefined) return { ...common, rule: { case: "cel", value: cel } };
	if (registered !== undefined) return { ...common, rule: { case: "function", value: registered } };
	throw new TypeError(`the validator ${name} has no rule: jsonSchema, cel or function`);
}

function ofValidator({ name, keyGlob, rule }: StoreValidator): StoreRule {
	return { name, ...(keyGlob !== "" && { glob: keyGlob }), ...(rule.case && { [rule.case]: rule.value }) };
}

function toQuota({ keys = 0, bytes = 0 }: StoreBounds) {
	return { keys: BigInt(keys), bytes: BigInt(bytes) };
}

function ofQuota(quota: StoreQuota | undefined): StoreBounds {
	return { keys: Number(quota?.keys ?? 0n), bytes: Number(quota?.bytes ?? 0n) };
}
