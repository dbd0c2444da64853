import { createHash } from "node:crypto";
import { HubError } from "../hub-error.ts";

const DIGEST_BYTES = 12;

/**
 * An opaque token that says where the next page begins and which query it belongs to. `query` is everything of the
 * request that must stay the same.
 */
export function writePageToken(query: string, where: string): string {
	return Buffer.concat([digest(query), Buffer.from(where)]).toString("base64url");
}

/** What `writePageToken` was given as `where`. Throws INVALID_PAGE_TOKEN for the token of another query and for no token. */
export function readPageToken(query: string, token: string): string {
	const bytes = Buffer.from(token.slice(0, 1024), "base64url");
	if (bytes.byteLength <= DIGEST_BYTES || !bytes.subarray(0, DIGEST_BYTES).equals(digest(query))) {
		throw HubError.field("page_token", "is not of an answer to this request", "INVALID_PAGE_TOKEN");
	}
	return bytes.subarray(DIGEST_BYTES).toString();
}

/** The size of a page: the default for 0, at most `most`. Refuses a negative one. */
export function pageSizeOf(asked: number, usual: number, most: number): number {
	if (asked < 0) throw HubError.field("page_size", "is negative");
	return asked === 0 ? usual : Math.min(asked, most);
}

function digest(query: string): Buffer {
	return createHash("sha256").update(query).digest().subarray(0, DIGEST_BYTES);
}
