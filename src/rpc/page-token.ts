import { createHash } from "node:crypto";
import { HubError } from "../hub-error.ts";

const DIGEST_BYTES = 9;
const MAX_TOKEN_LENGTH = 2048;

/**
 * An opaque token that says where the next page begins. `query` is everything that chose the pages before, caller
 * included: a token belongs to it. It holds nothing that its holder could not see and opens nothing to whoever forges it.
 */
export function encodePageToken(query: readonly unknown[], place: string): string {
	return Buffer.concat([digestOf(query), Buffer.from(place)]).toString("base64url");
}

/** The place in a token; empty for no token. Refuses with INVALID_PAGE_TOKEN what was not made for this query. */
export function decodePageToken(query: readonly unknown[], token: string): string {
	if (token === "") return "";
	const bytes = token.length <= MAX_TOKEN_LENGTH ? Buffer.from(token, "base64url") : Buffer.alloc(0);
	const isOurs = bytes.length > DIGEST_BYTES && bytes.subarray(0, DIGEST_BYTES).equals(digestOf(query));
	if (isOurs && bytes.toString("base64url") === token) return bytes.subarray(DIGEST_BYTES).toString();
	throw HubError.field("page_token", "was not made for this request", "INVALID_PAGE_TOKEN");
}

function digestOf(query: readonly unknown[]): Buffer {
	return createHash("sha256").update(JSON.stringify(query)).digest().subarray(0, DIGEST_BYTES);
}
