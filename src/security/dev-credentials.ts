import { create, toBinary } from "@bufbuild/protobuf";
import { PermissionsRecordSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import { PermissionsSchema } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import type { IdSource } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import { keys } from "../state/key-layout.ts";
import type { KvStore } from "../state/kv-store.ts";
import type { AuditLog } from "./audit-log.ts";
import { credentialsOf } from "./credential-records.ts";
import type { Credentials } from "./credentials.ts";
import type { PolicyView } from "./policy-view.ts";

const LIFETIME_MS = 30 * 86_400_000;

export interface DevCredentialsOptions {
	readonly kv: KvStore;
	readonly policy: PolicyView;
	readonly credentials: Credentials;
	readonly audit: AuditLog;
	readonly ids: IdSource;
}

/** Lets plugins in without a credential on a developer's machine. Made only where the hub runs with `--dev`. */
export class DevCredentials {
	readonly #options: DevCredentialsOptions;

	constructor(options: DevCredentialsOptions) {
		this.#options = options;
	}

	/**
	 * A token for a plugin id that nobody has, which from now on may exchange anything with anyone; not network, file system
	 * or `intercept`. Rejects with PLUGIN_EXISTS where the id is registered, was granted anything, is disabled or has
	 * credentials.
	 */
	async create(pluginId: string): Promise<string> {
		const { kv, policy, credentials, audit, ids } = this.#options;
		const principal = { kind: "plugin", id: pluginId } as const;
		if (credentialsOf(kv, `plugin:${pluginId}`).length > 0) throw taken(pluginId);
		const prepared = await credentials.prepare(principal, LIFETIME_MS);
		const change = audit.change({
			event: "credential_issued",
			actor: "anonymous",
			target: `plugin:${pluginId}`,
			reason: "dev_registration",
			details: { credential_id: prepared.credentialId },
		});
		const owned = [keys.registration, keys.permissions, keys.trust, keys.disabled];
		const result = await kv.commit({
			id: ids.next(),
			checks: owned.map((key) => ({ key: key(pluginId), revision: 0 })),
			writes: [{ key: keys.permissions(pluginId), value: EVERYTHING }, prepared.write, change.write],
		});
		if (!result.ok) throw taken(pluginId);
		await policy.applied(result.firstRevision);
		await change.settle();
		return prepared.token;
	}

	/** Undoes `create` where the registration that it was for did not come about: the id is free again. */
	async withdraw(pluginId: string): Promise<void> {
		const { kv, policy, audit, ids } = this.#options;
		const change = audit.change({
			event: "credential_revoked",
			actor: "hub",
			target: `plugin:${pluginId}`,
			reason: "dev_registration_failed",
		});
		const held = credentialsOf(kv, `plugin:${pluginId}`).map(({ key }) => key);
		const gone = [keys.permissions(pluginId), ...held].map((key) => ({ key, delete: true }) as const);
		const result = await kv.commit({ id: ids.next(), writes: [...gone, change.write] });
		if (!result.ok) throw new Error("a commit without checks conflicts with nothing");
		await policy.applied(result.firstRevision);
		await change.settle();
	}
}

const EVERYTHING = toBinary(
	PermissionsRecordSchema,
	create(PermissionsRecordSchema, {
		permissions: create(PermissionsSchema, {
			sendTo: ["*"],
			receiveFrom: ["*"],
			emit: ["**"],
			subscribe: ["**"],
			replay: ["**"],
			publishTopics: ["**"],
			subscribeTopics: ["**"],
			stores: [{ store: "*", read: true, write: true, create: true }],
			capabilities: ["**"],
			broadcast: true,
		}),
	}),
);

function taken(pluginId: string): HubError {
	return new HubError("PLUGIN_EXISTS", `the id "${pluginId}" is taken`, {
		metadata: { plugin_id: pluginId },
		resource: { type: "plugin", name: pluginId },
	});
}
