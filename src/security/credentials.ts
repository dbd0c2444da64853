import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { type CredentialRecord, CredentialRecordSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import { IssueCredentialResponseSchema } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import type { Clock, IdSource } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import type { AnswerCodec, FirstAnswers } from "../idempotency/first-answers.ts";
import { keys } from "../state/key-layout.ts";
import type { KvStore, KvWrite } from "../state/kv-store.ts";
import type { AuditLog } from "./audit-log.ts";
import {
	credentialsOf,
	findCredential,
	MAX_RECORDS_PER_PRINCIPAL,
	type StoredCredential,
} from "./credential-records.ts";
import { credentialProblem } from "./credential-state.ts";
import type { PolicyView } from "./policy-view.ts";
import type { Principal, Tokens } from "./token.ts";

/** Credentials of one principal that may be valid at once. */
export const MAX_CREDENTIALS_PER_PRINCIPAL = 32;

/** Who changes something, for the audit log. */
export interface ChangedBy {
	/** A principal, or `hub`. */
	readonly actor: string;
	readonly requestId?: string;
}

export interface IssueOptions {
	readonly principal: Principal;
	/** Milliseconds. */
	readonly lifetimeMs: number;
	/** A repeat of it within two minutes, by the same actor, names the first credential. Another digest is ID_REUSED. */
	readonly request?: { readonly requestId: string; readonly digest: Uint8Array };
	/** Makes room by revoking the oldest, where the principal has as many as it may. Default: LIMIT_EXCEEDED. */
	readonly revokeOldest?: boolean;
}

export interface IssuedCredential {
	readonly credentialId: string;
	/** Empty where `duplicate`: a token is shown once. */
	readonly token: string;
	/** Wall-clock milliseconds. */
	readonly expiresAt: number;
	readonly duplicate: boolean;
}

/** A credential that counts once `write` is committed. */
export interface PreparedCredential {
	readonly credentialId: string;
	readonly token: string;
	readonly expiresAt: number;
	readonly write: KvWrite;
}

export interface CredentialsOptions {
	readonly kv: KvStore;
	readonly policy: PolicyView;
	readonly tokens: Tokens;
	readonly audit: AuditLog;
	readonly answers: FirstAnswers;
	readonly clock: Clock;
	readonly ids: IdSource;
}

/** Issues and revokes credentials. What it answers is in force on this hub, and within a second on the others. */
export class Credentials {
	readonly #options: CredentialsOptions;
	/** Issues run one after the other, so that each counts the ones before. */
	#turn: Promise<unknown> = Promise.resolve();

	constructor(options: CredentialsOptions) {
		this.#options = options;
	}

	/** Rejects with LIMIT_EXCEEDED, ID_REUSED, STORAGE_FULL or STORAGE_UNAVAILABLE. */
	async issue(options: IssueOptions, by: ChangedBy): Promise<IssuedCredential> {
		const issued = this.#turn.then(() => this.#issue(options, by));
		this.#turn = issued.catch(() => {});
		return issued;
	}

	/** Whether `issue` would have room. Throws LIMIT_EXCEEDED where not. */
	checkRoom(principal: Principal): void {
		this.#makeRoom(principal, false);
	}

	/** Signs a credential without storing it. */
	async prepare(principal: Principal, lifetimeMs: number): Promise<PreparedCredential> {
		const { ids, tokens, clock } = this.#options;
		const now = clock.now();
		// Tokens count in whole seconds; a lifetime is never cut short.
		const expiresAt = Math.ceil((now + lifetimeMs) / 1000) * 1000;
		const credentialId = ids.next();
		const token = await tokens.sign({ principal, credentialId, issuedAt: now, expiresAt });
		const name = `${principal.kind}:${principal.id}`;
		const record = create(CredentialRecordSchema, {
			credentialId,
			principal: name,
			issueTimeMs: BigInt(now),
			expireTimeMs: BigInt(expiresAt),
		});
		return { credentialId, token, expiresAt, write: write(record) };
	}

	/** Rejects with CREDENTIAL_NOT_FOUND where no credential of this id counts. */
	async revoke(credentialId: string, reason: string, by: ChangedBy, validateOnly = false): Promise<void> {
		const found = findCredential(this.#options.kv, credentialId);
		if (found === undefined || !this.#counts(found.record)) throw notFound({ credential_id: credentialId });
		if (!validateOnly) await this.#revoke([found], reason, by, `credential:${credentialId}`);
	}

	/** Revokes all that the principal has now. Rejects with CREDENTIAL_NOT_FOUND where none counts. */
	async revokeAll(principal: Principal, reason: string, by: ChangedBy, validateOnly = false): Promise<void> {
		const name = `${principal.kind}:${principal.id}`;
		const valid = credentialsOf(this.#options.kv, name).filter(({ record }) => this.#counts(record));
		if (valid.length === 0) throw notFound({ principal: name });
		if (!validateOnly) await this.#revoke(valid, reason, by, name);
	}

	async #issue(options: IssueOptions, by: ChangedBy): Promise<IssuedCredential> {
		const { policy, audit, answers } = this.#options;
		const { principal, lifetimeMs, request, revokeOldest = false } = options;
		const { credentialId, token, expiresAt, write } = await this.prepare(principal, lifetimeMs);
		const change = audit.change({
			event: "credential_issued",
			actor: by.actor,
			target: `${principal.kind}:${principal.id}`,
			details: { credential_id: credentialId, expire_time: new Date(expiresAt).toISOString() },
			requestId: by.requestId,
		});
		const { answer, duplicate, firstRevision } = await answers.settle(
			() => ({
				checks: [],
				writes: [write, change.write, ...this.#makeRoom(principal, revokeOldest)],
				answer: { credentialId, expiresAt },
			}),
			request && { request: { principal: by.actor, method: "IssueCredential", ...request }, codec: FIRST_ANSWER },
		);
		if (duplicate) return { ...answer, token: "", duplicate };
		await policy.applied(firstRevision);
		await change.settle();
		return { ...answer, token, duplicate };
	}

	/** Purges what cannot count any more, and revokes or refuses beyond the bound. */
	#makeRoom(principal: Principal, revokeOldest: boolean): KvWrite[] {
		const name = `${principal.kind}:${principal.id}`;
		const stored = credentialsOf(this.#options.kv, name);
		const now = this.#options.clock.now();
		const expired = stored.filter(({ record }) => Number(record.expireTimeMs) <= now);
		const valid = stored.filter(({ record }) => this.#counts(record)).sort(byIssueTime);
		const revoked = stored.filter((one) => !expired.includes(one) && !valid.includes(one)).sort(byIssueTime);
		const excess = valid.length + 1 - MAX_CREDENTIALS_PER_PRINCIPAL;
		if (excess > 0 && !revokeOldest) throw tooMany(name);
		const dropped = [...expired, ...(excess > 0 ? valid.slice(0, excess) : [])];
		// A revoked credential without a record is refused just the same; only why is forgotten.
		const over = stored.length + 1 - dropped.length - MAX_RECORDS_PER_PRINCIPAL;
		if (over > 0) dropped.push(...revoked.slice(0, over));
		return dropped.map(({ key }) => ({ key, delete: true }));
	}

	async #revoke(found: readonly StoredCredential[], reason: string, by: ChangedBy, target: string): Promise<void> {
		const { kv, policy, audit, clock, ids } = this.#options;
		const change = audit.change({
			event: "credential_revoked",
			actor: by.actor,
			target,
			reason,
			details: {
				credential_ids: found.map(({ record }) => record.credentialId).join(","),
				principal: found[0]?.record.principal ?? "",
			},
			requestId: by.requestId,
		});
		const revokeTimeMs = BigInt(clock.now());
		const writes = found.map(({ record }) => write({ ...record, revokeTimeMs, revokeReason: reason }));
		const result = await kv.commit({ id: ids.next(), writes: [...writes, change.write] });
		if (!result.ok) throw new Error("a commit without checks conflicts with nothing");
		await policy.applied(result.firstRevision);
		await change.settle();
	}

	#counts(record: CredentialRecord): boolean {
		return credentialProblem(record, this.#options.clock.now()) === undefined;
	}
}

/** What a repeated request is told: which credential it was, and not its token, which is not kept. */
const FIRST_ANSWER: AnswerCodec<Pick<IssuedCredential, "credentialId" | "expiresAt">> = {
	encode({ credentialId, expiresAt }) {
		const response = create(IssueCredentialResponseSchema, { credentialId, expireTime: timestampFromMs(expiresAt) });
		return toBinary(IssueCredentialResponseSchema, response);
	},
	decode(bytes) {
		const { credentialId, expireTime } = fromBinary(IssueCredentialResponseSchema, bytes);
		return { credentialId, expiresAt: expireTime === undefined ? 0 : timestampMs(expireTime) };
	},
};

function write(record: CredentialRecord): KvWrite {
	return {
		key: keys.credential(record.principal, record.credentialId),
		value: toBinary(CredentialRecordSchema, record),
	};
}

function byIssueTime(a: StoredCredential, b: StoredCredential): number {
	return Number(a.record.issueTimeMs - b.record.issueTimeMs);
}

function notFound(metadata: Readonly<Record<string, string>>): HubError {
	return new HubError("CREDENTIAL_NOT_FOUND", "there is no such credential that is valid", { metadata });
}

function tooMany(principal: string): HubError {
	const limit = MAX_CREDENTIALS_PER_PRINCIPAL;
	return new HubError(
		"LIMIT_EXCEEDED",
		`${principal} has ${limit} valid credentials, which is the limit; revoke some`,
		{
			metadata: { limit: String(limit) },
			quota: { subject: principal, description: `at most ${limit} valid credentials` },
		},
	);
}
