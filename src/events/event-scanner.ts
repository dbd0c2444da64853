import { attributePath, CONTENT_LIMITS, RESERVED_ATTRIBUTE_PREFIX } from "../content/content-limits.ts";
import { HubError } from "../hub-error.ts";
import { parseSubject, type Subject } from "../subjects/subject.ts";
import { isText } from "../wire/utf8.ts";
import { exactVarint } from "../wire/varint.ts";
import { isTimestamp } from "../wire/wire-time.ts";

/** Names a field of the event being scanned; made only where something is wrong with it. */
export type FieldName = (name: string) => string;

/** The bits of `#seen`, by field number. */
const ID = 1 << 1;
const TYPE = 1 << 2;
const SUBJECT = 1 << 3;
const TIME = 1 << 4;
const ORDERING_KEY = 1 << 6;
const PAYLOAD = 1 << 7;
const SOURCE = 1 << 16;

const HUB_FIELDS: ReadonlyMap<number, string> = new Map([
	[17, "hub_time"],
	[18, "sequence"],
	[19, "is_replay"],
]);

const RESERVED_PREFIX = new Uint8Array(Buffer.from(RESERVED_ATTRIBUTE_PREFIX));
const NO_BYTES = new Uint8Array(0);
/** How many types one scanner remembers, each at most about 1 KiB. A power of two. */
const TYPE_SLOTS = 64;

interface KnownType {
	readonly bytes: Uint8Array;
	readonly subject: Subject;
}

const EMPTY_SUBJECT = parseSubject("none", "type");

/**
 * Reads one published event in protobuf wire form without building it, and checks every bound of `event_service.proto`.
 *
 * It takes an encoding only where every decoder reads the same from it: each single field at most once, no field that
 * is not known, minimal tags and lengths, nested messages that end where they say. `scan` answers false for a valid
 * encoding that is not of this kind; the caller then decodes and encodes the event again and scans that. So what was
 * checked is what subscribers decode.
 *
 * One scanner serves one publisher; its results are of the last event scanned.
 */
export class EventScanner {
	readonly #publisher: Uint8Array;
	#bytes: Uint8Array = NO_BYTES;
	#field: FieldName = (name) => name;
	#seen = 0;
	#at = 0;
	#attributes = 0;
	/** Types seen lately, by a hash of their bytes. */
	readonly #types: (KnownType | undefined)[] = new Array(TYPE_SLOTS).fill(undefined);
	#type: Subject = EMPTY_SUBJECT;
	#jsonStart = 0;
	#jsonEnd = -1;
	#contentTypeStart = 0;
	#contentTypeEnd = 0;
	#idStart = 0;
	#idEnd = 0;
	#hasBinary = false;
	#contentBytes = 0;

	constructor(publisherId: string) {
		this.#publisher = Buffer.from(publisherId);
	}

	/** The event's type. */
	get subject(): Subject {
		return this.#type;
	}

	/** The event's id; empty where the hub is to make one. */
	get id(): string {
		if ((this.#seen & ID) === 0) return "";
		return this.#string(this.#idStart, this.#idEnd);
	}

	/** Whether the encoding holds the publisher's own id as source. */
	get hasSource(): boolean {
		return (this.#seen & SOURCE) !== 0;
	}

	/** Bytes of the payload, attribute keys and attribute values. */
	get bytes(): number {
		return this.#contentBytes;
	}

	/** The payload's JSON text; undefined where it has none. Valid until the next scan. */
	get json(): Uint8Array | undefined {
		return this.#jsonEnd < 0 ? undefined : this.#bytes.subarray(this.#jsonStart, this.#jsonEnd);
	}

	/** The payload's media type, with the default that its body implies. */
	get contentType(): string {
		if (this.#contentTypeEnd > this.#contentTypeStart) {
			return this.#string(this.#contentTypeStart, this.#contentTypeEnd);
		}
		return this.#hasBinary ? "application/octet-stream" : "application/json";
	}

	/**
	 * Scans the event in `bytes[start, end)`. Throws a `HubError`: MALFORMED_REQUEST for what is no event at all,
	 * INVALID_FIELD, INVALID_EVENT_TYPE, SPOOFED_SOURCE.
	 */
	scan(bytes: Uint8Array, start: number, end: number, field: FieldName): boolean {
		this.#bytes = bytes;
		this.#field = field;
		this.#seen = 0;
		this.#attributes = 0;
		this.#jsonEnd = -1;
		this.#contentTypeEnd = this.#contentTypeStart = 0;
		this.#hasBinary = false;
		this.#contentBytes = 0;
		this.#at = start;
		while (this.#at < end) {
			const bit = this.#fieldBit(end);
			if (bit < 0) return false;
			const length = this.#length(end);
			if (length < 0) return false;
			const from = this.#at;
			const to = from + length;
			if (bit !== 0) {
				if ((this.#seen & bit) !== 0) return false;
				this.#seen |= bit;
			}
			switch (bit) {
				case ID:
					if (length === 0) return false;
					this.#text(from, to, CONTENT_LIMITS.idBytes, "id");
					this.#idStart = from;
					this.#idEnd = to;
					break;
				case TYPE:
					this.#readType(from, to);
					break;
				case SUBJECT:
					this.#text(from, to, CONTENT_LIMITS.subjectBytes, "subject");
					break;
				case ORDERING_KEY:
					this.#text(from, to, CONTENT_LIMITS.orderingKeyBytes, "ordering_key");
					break;
				case SOURCE:
					if (length === 0) return false;
					if (!rangeEquals(bytes, from, to, this.#publisher)) throw this.#spoofed(from, to);
					break;
				case PAYLOAD:
					if (!this.#readPayload(to)) return false;
					break;
				case TIME:
					if (!this.#readTime(to)) return false;
					break;
				default:
					if (!this.#readAttribute(to)) return false;
			}
			this.#at = to;
		}
		if ((this.#seen & TYPE) === 0) throw HubError.field(field("type"), "is required", "INVALID_EVENT_TYPE");
		return true;
	}

	/** The bit of the field whose tag comes next, 0 for an attribute, -1 where the encoding is to be made anew. */
	#fieldBit(end: number): number {
		const bytes = this.#bytes;
		const tag = bytes[this.#at++]!;
		if (tag < 0x80) {
			const number = tag >>> 3;
			if (number === 0) throw malformed("a field has number 0");
			if (number > 7) return -1;
			if ((tag & 7) !== 2) throw malformed(`field ${number} of an event has a wrong wire type`);
			return number === 5 ? 0 : 1 << number;
		}
		if (this.#at >= end) throw malformed("an event ends within a tag");
		const high = bytes[this.#at++]!;
		if (high >= 0x80) return -1;
		const number = ((tag & 0x7f) | (high << 7)) >>> 3;
		const name = HUB_FIELDS.get(number);
		if (name !== undefined) throw HubError.field(this.#field(name), "is set by the hub alone");
		if (number !== 16) return -1;
		if ((tag & 7) !== 2) throw malformed("field 16 of an event has a wrong wire type");
		return SOURCE;
	}

	/** Reads a length that must fit before `end`; -1 where it is not minimal. */
	#length(end: number): number {
		const bytes = this.#bytes;
		if (this.#at >= end) throw malformed("an event ends within a length");
		let length = bytes[this.#at++]!;
		if (length >= 0x80) {
			length &= 0x7f;
			for (let shift = 7; ; shift += 7) {
				if (this.#at >= end || shift > 21) throw malformed("a length in an event is damaged");
				const byte = bytes[this.#at++]!;
				length |= (byte & 0x7f) << shift;
				if (byte >= 0x80) continue;
				if (byte === 0) return -1;
				break;
			}
		}
		if (length > end - this.#at) throw malformed("a field of an event ends beyond it");
		return length;
	}

	#text(from: number, to: number, maxBytes: number, name: string): void {
		if (to - from > maxBytes) {
			throw HubError.field(this.#field(name), `has ${to - from} bytes; at most ${maxBytes} are allowed`);
		}
		if (!isText(this.#bytes, from, to)) throw malformed(`${this.#field(name)} is not UTF-8`);
	}

	/** A publisher uses few types, so they are recognised by their bytes before anything is decoded. */
	#readType(from: number, to: number): void {
		if (to === from) throw HubError.field(this.#field("type"), "is required", "INVALID_EVENT_TYPE");
		const bytes = this.#bytes;
		let hash = 0;
		for (let at = from; at < to; at++) hash = (Math.imul(hash, 31) + bytes[at]!) | 0;
		const slot = (hash ^ (hash >>> 15)) & (TYPE_SLOTS - 1);
		const known = this.#types[slot];
		if (known !== undefined && rangeEquals(bytes, from, to, known.bytes)) {
			this.#type = known.subject;
			return;
		}
		if (!isText(bytes, from, to)) throw malformed(`${this.#field("type")} is not UTF-8`);
		this.#type = parseSubject(this.#string(from, to), this.#field("type"));
		// A copy of its own, which keeps no larger buffer in memory.
		this.#types[slot] = { bytes: new Uint8Array(bytes.subarray(from, to)), subject: this.#type };
	}

	#readPayload(end: number): boolean {
		let seen = 0;
		while (this.#at < end) {
			const tag = this.#bytes[this.#at++]!;
			const number = tag >>> 3;
			if (number === 0) throw malformed("a field has number 0");
			if (tag >= 0x80 || number > 4) return false;
			if ((tag & 7) !== 2) throw malformed(`field ${number} of a payload has a wrong wire type`);
			const length = this.#length(end);
			if (length < 0) return false;
			// Of `json` and `binary` the last one counts.
			const bit = number === 2 ? 1 << 1 : 1 << number;
			if ((seen & bit) !== 0) return false;
			seen |= bit;
			const from = this.#at;
			const to = from + length;
			this.#at = to;
			if (number <= 2) {
				this.#contentBytes += length;
				if (number === 2) {
					this.#hasBinary = true;
				} else {
					if (!isText(this.#bytes, from, to)) throw malformed(`${this.#field("payload.json")} is not UTF-8`);
					this.#jsonStart = from;
					this.#jsonEnd = to;
				}
			} else if (number === 3) {
				this.#text(from, to, CONTENT_LIMITS.contentTypeBytes, "payload.content_type");
				this.#contentTypeStart = from;
				this.#contentTypeEnd = to;
			} else {
				this.#text(from, to, CONTENT_LIMITS.schemaBytes, "payload.schema");
			}
		}
		return true;
	}

	#readAttribute(end: number): boolean {
		if (++this.#attributes > CONTENT_LIMITS.attributes) {
			throw HubError.field(this.#field("attributes"), `at most ${CONTENT_LIMITS.attributes} are allowed`);
		}
		let keyStart = -1;
		let keyEnd = -1;
		let valueEnd = -1;
		while (this.#at < end) {
			const tag = this.#bytes[this.#at++]!;
			if (tag !== 0x0a && tag !== 0x12) return false;
			const length = this.#length(end);
			if (length < 0) return false;
			const from = this.#at;
			this.#at = from + length;
			this.#contentBytes += length;
			if (tag === 0x0a) {
				if (keyStart >= 0) return false;
				keyStart = from;
				keyEnd = from + length;
				this.#text(keyStart, keyEnd, CONTENT_LIMITS.attributeKeyBytes, "attributes");
			} else {
				if (valueEnd >= 0) return false;
				valueEnd = from + length;
				this.#text(from, valueEnd, CONTENT_LIMITS.attributeValueBytes, "attributes");
			}
		}
		if (keyEnd <= keyStart) throw HubError.field(this.#field("attributes"), "a key is empty");
		if (isReservedKey(this.#bytes, keyStart, keyEnd)) {
			const key = this.#string(keyStart, keyEnd);
			throw HubError.field(this.#field(attributePath(key)), `the prefix "${RESERVED_ATTRIBUTE_PREFIX}" is reserved`);
		}
		return true;
	}

	#readTime(end: number): boolean {
		let seconds = 0;
		let nanos = 0;
		let seen = 0;
		while (this.#at < end) {
			const tag = this.#bytes[this.#at++]!;
			if ((tag !== 0x08 && tag !== 0x10) || (seen & tag) !== 0) return false;
			seen |= tag;
			const value = this.#int64(end);
			if (tag === 0x08) seconds = value;
			else nanos = value;
		}
		if (!isTimestamp(seconds, nanos)) {
			throw HubError.field(this.#field("time"), "is not a time from year 1 to year 9999");
		}
		return true;
	}

	#int64(end: number): number {
		let value = 0;
		let scale = 1;
		for (let index = 0; index < 10; index++) {
			if (this.#at >= end) throw malformed("an event ends within a number");
			const byte = this.#bytes[this.#at++]!;
			// The top bits tell a negative number, which is all that its bound needs.
			if (index === 9) {
				if (byte !== 1) throw malformed("a number in an event is damaged");
				return Number(BigInt.asIntN(64, exactVarint(this.#bytes, this.#at - 10, this.#at)));
			}
			value += (byte & 0x7f) * scale;
			scale *= 0x80;
			if (byte < 0x80) return value;
		}
		return value;
	}

	#string(from: number, to: number): string {
		return Buffer.from(this.#bytes.buffer, this.#bytes.byteOffset + from, to - from).toString();
	}

	#spoofed(from: number, to: number): HubError {
		const named = isText(this.#bytes, from, to) ? this.#string(from, to) : "?";
		const field = this.#field("source");
		return HubError.field(
			field,
			`names ${JSON.stringify(named.slice(0, 128))}, which is not the caller`,
			"SPOOFED_SOURCE",
		);
	}
}

/** Whether the range holds exactly these bytes. */
function rangeEquals(bytes: Uint8Array, start: number, end: number, expected: Uint8Array): boolean {
	if (end - start !== expected.byteLength) return false;
	for (let at = 0; at < expected.byteLength; at++) if (bytes[start + at] !== expected[at]) return false;
	return true;
}

function isReservedKey(bytes: Uint8Array, start: number, end: number): boolean {
	const prefixEnd = start + RESERVED_PREFIX.byteLength;
	return prefixEnd <= end && rangeEquals(bytes, start, prefixEnd, RESERVED_PREFIX);
}

function malformed(what: string): HubError {
	return new HubError("MALFORMED_REQUEST", what);
}
