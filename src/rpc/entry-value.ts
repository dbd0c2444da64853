import { HubError } from "../hub-error.ts";
import type { ContentFacts } from "../security/content-rule.ts";
import { WireReader } from "../wire/wire-reader.ts";

/** One for all: a value is read whole, in one turn. */
const READER = new WireReader(Buffer.alloc(0));

/** Of `Payload`. */
const LAST_FIELD = 4;

/** A value that somebody wants to store: a `Payload` in wire form, and what the content rules look at of it. */
export interface EntryValue extends ContentFacts {
	readonly wire: Uint8Array;
}

/**
 * Refuses a payload that is absent or has no body. What the hub does not know in it is left out: it would be stored and counted
 * nowhere.
 */
export function readEntryValue(wire: Uint8Array | undefined): EntryValue {
	if (wire === undefined) throw HubError.field("value", "is required");
	const reader = READER;
	reader.begin(wire);
	let json: Uint8Array | undefined;
	let bytes = -1;
	let contentType = "";
	let schema = "";
	let isKnown = true;
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		switch (number) {
			case 1:
				json = reader.utf8View();
				bytes = json.byteLength;
				break;
			case 2:
				json = undefined;
				bytes = reader.skipped();
				break;
			case 3:
				contentType = reader.string();
				break;
			case 4:
				schema = reader.string();
				break;
			default:
				isKnown = false;
				reader.skip();
		}
	}
	if (bytes < 0) throw HubError.field("value", "has no body; set json or binary");
	return { wire: isKnown ? wire : withoutUnknown(wire), bytes, contentType, schema, json };
}

function withoutUnknown(wire: Uint8Array): Uint8Array {
	const reader = new WireReader(wire);
	const kept: Uint8Array[] = [];
	for (let start = 0; ; start = reader.pos) {
		const number = reader.next();
		if (number === 0) return Buffer.concat(kept);
		reader.skip();
		if (number <= LAST_FIELD) kept.push(wire.subarray(start, reader.pos));
	}
}
