import { DELIMITED, type WireCursor } from "./wire-cursor.ts";

// Field numbers of `Payload`.
const JSON_BODY = 1;
const BINARY_BODY = 2;

/** Where the body of a `Payload` stands. */
export interface WireBody {
	readonly isJson: boolean;
	readonly at: number;
	readonly end: number;
}

/** Looks for the body of the payload between `from` and `end`; undefined where it has none. Moves the cursor. */
export function findBody(cursor: WireCursor, from: number, end: number): WireBody | undefined {
	let body: WireBody | undefined;
	cursor.at = from;
	while (cursor.at < end) {
		const tag = cursor.varint();
		if ((tag & 7) !== DELIMITED) {
			cursor.skip(tag & 7);
			continue;
		}
		const length = cursor.varint();
		const at = cursor.at;
		cursor.at = at + length;
		const field = tag >>> 3;
		if (field === JSON_BODY || field === BINARY_BODY) body = { isJson: field === JSON_BODY, at, end: cursor.at };
	}
	return body;
}
