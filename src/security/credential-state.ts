import type { CredentialRecord } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import { HubError } from "../hub-error.ts";

/**
 * What keeps a credential from counting at `now` (wall-clock milliseconds): CREDENTIAL_EXPIRED or CREDENTIAL_REVOKED. One
 * without a record was purged or belongs to another state, and counts as revoked.
 */
export function credentialProblem(record: CredentialRecord | undefined, now: number): HubError | undefined {
	if (record !== undefined && Number(record.expireTimeMs) <= now) {
		return new HubError("CREDENTIAL_EXPIRED", "the credential has expired");
	}
	if (record === undefined || record.revokeTimeMs !== 0n) {
		return new HubError("CREDENTIAL_REVOKED", "the credential was revoked");
	}
	return undefined;
}
