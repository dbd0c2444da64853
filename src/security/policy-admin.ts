import { create, toBinary } from "@bufbuild/protobuf";
import { PermissionsRecordSchema, TrustRecordSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import type { Permissions, TrustLevel } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import type { CommitPlan, FirstAnswers } from "../idempotency/first-answers.ts";
import { type ExpectedRevision, requireRevision } from "../state/expected-revision.ts";
import { keys } from "../state/key-layout.ts";
import type { KvCheck, KvWrite } from "../state/kv-store.ts";
import type { AuditEntry } from "./audit-entry.ts";
import type { AuditedChange, AuditLog } from "./audit-log.ts";
import type { ChangedBy } from "./credentials.ts";
import type { PolicyView, Revised } from "./policy-view.ts";
import { excessGrants, requireTrustFor, trustName } from "./trust.ts";

export interface PolicyAdminOptions {
	readonly policy: PolicyView;
	readonly audit: AuditLog;
	readonly answers: FirstAnswers;
}

export interface SetOptions {
	readonly pluginId: string;
	readonly expected: ExpectedRevision;
	/** Checks everything and changes nothing. */
	readonly validateOnly: boolean;
}

/** What a write found, and what it would store. */
interface Draft {
	/** The revision that the key has now. */
	readonly revision: number;
	readonly write: KvWrite;
	readonly checks: readonly KvCheck[];
	readonly entry: AuditEntry;
}

/**
 * Sets what plugins may do and how far they are trusted. What it answers is in force on this hub, and within a second on
 * the others; the audit record is part of the same commit.
 */
export class PolicyAdmin {
	readonly #options: PolicyAdminOptions;

	constructor(options: PolicyAdminOptions) {
		this.#options = options;
	}

	/**
	 * Replaces the permissions and gives their revision. Rejects with TRUST_TOO_LOW, REVISION_MISMATCH, STORAGE_FULL or
	 * STORAGE_UNAVAILABLE.
	 */
	setPermissions(permissions: Permissions, options: SetOptions, by: ChangedBy): Promise<number> {
		const { pluginId, expected } = options;
		const key = keys.permissions(pluginId);
		const value = toBinary(PermissionsRecordSchema, create(PermissionsRecordSchema, { permissions }));
		return this.#commit(options, () => {
			const { revision } = this.#options.policy.permissions(pluginId);
			requireRevision(expected, revision, { type: "permissions", name: pluginId });
			const trust = this.#options.policy.trust(pluginId);
			requireTrustFor(permissions, trust.value, pluginId);
			return {
				revision,
				write: { key, value },
				checks: [{ key: keys.trust(pluginId), revision: trust.revision }],
				entry: { event: "permissions_updated", ...by, target: `plugin:${pluginId}` },
			};
		});
	}

	/** The permissions as stored, and those of their fields that have no effect at the present trust level. */
	permissions(pluginId: string): Revised<Permissions> & { readonly ineffective: readonly string[] } {
		const stored = this.#options.policy.permissions(pluginId);
		const excess = excessGrants(stored.value, this.#options.policy.trust(pluginId).value);
		return { ...stored, ineffective: excess.map(({ field }) => field) };
	}

	/** Sets the level and gives its revision. Rejects as `setPermissions` does, but for trust. */
	setTrust(level: TrustLevel, reason: string, options: SetOptions, by: ChangedBy): Promise<number> {
		const { pluginId, expected } = options;
		const value = toBinary(TrustRecordSchema, create(TrustRecordSchema, { trustLevel: level }));
		return this.#commit(options, () => {
			const before = this.#options.policy.trust(pluginId);
			requireRevision(expected, before.revision, { type: "trust_level", name: pluginId });
			return {
				revision: before.revision,
				write: { key: keys.trust(pluginId), value },
				checks: [],
				entry: {
					event: "trust_level_changed",
					...by,
					target: `plugin:${pluginId}`,
					reason,
					details: { from: trustName(before.value), to: trustName(level) },
				},
			};
		});
	}

	/** The level as stored; UNTRUSTED where nothing was ever set. */
	trust(pluginId: string): Revised<TrustLevel> {
		return this.#options.policy.trust(pluginId);
	}

	/** Commits what `draft` makes of the present state; where that moved in between, of the new one. */
	async #commit({ validateOnly }: SetOptions, draft: () => Draft): Promise<number> {
		const { policy, audit, answers } = this.#options;
		const plan = (): CommitPlan<{ readonly revision: number; readonly change?: AuditedChange }> => {
			const { revision, write, checks, entry } = draft();
			if (validateOnly) return { checks: [], writes: [], answer: { revision } };
			const change = audit.change(entry);
			return {
				checks: [{ key: write.key, revision }, ...checks],
				writes: [write, change.write],
				answer: { revision, change },
			};
		};
		const { answer, firstRevision } = await answers.settle(plan);
		if (answer.change === undefined) return answer.revision;
		await policy.applied(firstRevision);
		await answer.change.settle();
		return firstRevision;
	}
}
