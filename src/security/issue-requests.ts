import { createHash } from "node:crypto";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { FirstAnswerRecordSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import { IssueCredentialResponseSchema } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import type { Clock } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import { keys } from "../state/key-layout.ts";
import type { KvCheck, KvStore, KvWrite } from "../state/kv-store.ts";
import type { Principal } from "./token.ts";

/** How long a request id is remembered, in milliseconds. */
const WINDOW_MS = 120_000;

const METHOD = "IssueCredential";

/** A request with an id, as `IssueRequests.open` found it. */
export interface IssueRequest {
	/** What the first request of this id got. */
	readonly first: { readonly credentialId: string; readonly expiresAt: number } | undefined;
	/** Fails the commit where somebody answers the request in between. */
	readonly check: KvCheck;
	/** Remembers the answer; goes into the commit of the credential. */
	write(credentialId: string, expiresAt: number): KvWrite;
}

/**
 * Remembers by request id which credential was issued, but not its token. The records have the form and the keys of all
 * first answers and are purged with them.
 */
export class IssueRequests {
	readonly #kv: KvStore;
	readonly #clock: Clock;

	constructor(kv: KvStore, clock: Clock) {
		this.#kv = kv;
		this.#clock = clock;
	}

	/** Throws ID_REUSED where the id was used for something else. */
	open(actor: string, requestId: string, principal: Principal, lifetimeMs: number): IssueRequest {
		const key = keys.firstAnswer(actor, METHOD, requestId);
		const digest = createHash("sha256")
			.update(JSON.stringify([principal.kind, principal.id, lifetimeMs]))
			.digest();
		const now = this.#clock.now();
		const entry = this.#kv.get(key);
		const record = entry && fromBinary(FirstAnswerRecordSchema, entry.value);
		const current = record !== undefined && now - Number(record.timeMs) < WINDOW_MS ? record : undefined;
		if (current !== undefined && !digest.equals(current.requestDigest)) {
			throw new HubError("ID_REUSED", `request_id "${requestId}" was used for another request`, {
				metadata: { request_id: requestId },
			});
		}
		return {
			first: current && readAnswer(current.response),
			check: { key, revision: entry?.revision ?? 0 },
			write: (credentialId, expiresAt) => {
				const response = create(IssueCredentialResponseSchema, {
					credentialId,
					expireTime: timestampFromMs(expiresAt),
				});
				const answer = create(FirstAnswerRecordSchema, {
					requestDigest: digest,
					response: toBinary(IssueCredentialResponseSchema, response),
					timeMs: BigInt(now),
				});
				return { key, value: toBinary(FirstAnswerRecordSchema, answer) };
			},
		};
	}
}

function readAnswer(bytes: Uint8Array): { credentialId: string; expiresAt: number } {
	const { credentialId, expireTime } = fromBinary(IssueCredentialResponseSchema, bytes);
	return { credentialId, expiresAt: expireTime === undefined ? 0 : timestampMs(expireTime) };
}
