import { createHash } from "node:crypto";
import { HubError } from "../hub-error.ts";

const DIGEST_BYTES = 9;
const MAX_TOKEN_LENGTH = 2048;

/** How many entries a page has. */
export interface PageSizes {
	/** Where the request does not say. */
	readonly usual: number;
	readonly most: number;
}

/** The size of a page: the usual one for 0. Refuses a negative one with INVALID_FIELD. */
export function pageSizeOf(asked: number, { usual, most }: PageSizes): number {
	if (asked < 0) throw HubError.field("page_size", "is negative");
	return asked === 0 ? usual : Math.min(asked, most);
}

/**
 * An opaque token that says where the next page begins; empty where there is none. `query` is everything that chose the
 * pages before: a token belongs to it. It holds nothing that its holder could not see and opens nothing to whoever forges
 * it.
 */
export function encodePageToken(query: readonly unknown[], place: string | undefined): string {
	return place === undefined ? "" : Buffer.concat([digestOf(query), Buffer.from(place)]).toString("base64url");
}

/** The place in a token; undefined for no token. Refuses with INVALID_PAGE_TOKEN what was not made for this query. */
export function decodePageToken(query: readonly unknown[], token: string): string | undefined {
	if (token === "") return undefined;
	const bytes = token.length <= MAX_TOKEN_LENGTH ? Buffer.from(token, "base64url") : Buffer.alloc(0);
	const isOurs = bytes.length > DIGEST_BYTES && bytes.subarray(0, DIGEST_BYTES).equals(digestOf(query));
	if (isOurs && bytes.toString("base64url") === token) return bytes.subarray(DIGEST_BYTES).toString();
	throw notThisRequest();
}

/** As `decodePageToken`, for a place that is a number of 0 or more. */
export function decodePageNumber(query: readonly unknown[], token: string): number | undefined {
	const place = decodePageToken(query, token);
	if (place === undefined) return undefined;
	const number = Number(place);
	if (!Number.isSafeInteger(number) || number < 0) throw notThisRequest();
	return number;
}

function notThisRequest(): HubError {
	return HubError.field("page_token", "was not made for this request", "INVALID_PAGE_TOKEN");
}

function digestOf(query: readonly unknown[]): Buffer {
	return createHash("sha256").update(JSON.stringify(query)).digest().subarray(0, DIGEST_BYTES);
}
