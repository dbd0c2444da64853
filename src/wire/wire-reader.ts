import { HubError } from "../hub-error.ts";
import { isAscii, isText } from "./utf8.ts";
import { exactVarint } from "./varint.ts";

const VARINT = 0;
const FIXED64 = 1;
const DELIMITED = 2;
const GROUP_START = 3;
const GROUP_END = 4;
const FIXED32 = 5;

/** Groups within groups, as protobuf decoders bound them. */
const MAX_GROUPS = 100;

/** Strings up to this many bytes are first tried as ASCII, which decodes faster. */
const SHORT_STRING = 48;

/**
 * Reads protobuf wire form in place, without building messages: what is only passed on is never decoded. Everything it
 * lets through is well formed; what is not is refused with MALFORMED_REQUEST.
 */
export class WireReader {
	bytes: Buffer;
	pos: number;
	end: number;
	/** The wire type of the field last begun. */
	wireType = VARINT;
	/** Its number. */
	#field = 0;

	constructor(bytes: Uint8Array, start = 0, end: number = bytes.byteLength) {
		this.bytes = asBuffer(bytes);
		this.pos = start;
		this.end = end;
	}

	/** Reads from here on, what is between these places. */
	begin(bytes: Uint8Array, start = 0, end: number = bytes.byteLength): void {
		this.bytes = asBuffer(bytes);
		this.pos = start;
		this.end = end;
	}

	/** The number of the next field; 0 at the end. */
	next(): number {
		if (this.pos >= this.end) return 0;
		const first = this.bytes[this.pos]!;
		// A field up to 15 has a tag of one byte.
		if (first >= 8 && first < 0x80) {
			this.pos++;
			this.wireType = first & 7;
			this.#field = first >> 3;
			return this.#field;
		}
		const tag = this.varint();
		this.wireType = tag & 7;
		const field = Math.floor(tag / 8);
		if (field === 0 || tag > 0xffffffff) throw malformed("a field number is out of range");
		this.#field = field;
		return field;
	}

	/** An unsigned varint. Beyond 2^53 the value is no longer exact; a negative one reads as about 2^64. */
	varint(): number {
		const bytes = this.bytes;
		if (this.pos < this.end && bytes[this.pos]! < 0x80) return bytes[this.pos++]!;
		let value = 0;
		let scale = 1;
		for (let i = 0; i < 10; i++) {
			if (this.pos >= this.end) throw truncated();
			const byte = bytes[this.pos++]!;
			value += (byte & 0x7f) * scale;
			if (byte < 0x80) return value;
			scale *= 128;
		}
		throw malformed("a varint is longer than 10 bytes");
	}

	/** The varint of a field that must be one. */
	number(): number {
		this.#expect(VARINT);
		return this.varint();
	}

	/** A uint64, as a number where that is exact. */
	uint64(): number | bigint {
		this.#expect(VARINT);
		const start = this.pos;
		const value = this.varint();
		return value <= Number.MAX_SAFE_INTEGER ? value : exactVarint(this.bytes, start, this.pos);
	}

	/** An int64 or int32; beyond 2^53 not exact. */
	signed(): number {
		this.#expect(VARINT);
		const start = this.pos;
		const value = this.varint();
		return value <= Number.MAX_SAFE_INTEGER
			? value
			: Number(BigInt.asIntN(64, exactVarint(this.bytes, start, this.pos)));
	}

	/** Steps over the length of a delimited field and gives the place where it ends; it begins at `pos`. */
	delimited(): number {
		this.#expect(DELIMITED);
		const length = this.varint();
		const end = this.pos + length;
		if (end > this.end) throw truncated();
		return end;
	}

	/** A nested message; the reader goes on behind it. */
	nested(): WireReader {
		const end = this.delimited();
		const inner = new WireReader(this.bytes, this.pos, end);
		this.pos = end;
		return inner;
	}

	/** Goes into a nested message, as `nested` without a reader of its own; gives what `leave` takes once `next` gave 0. */
	enter(): number {
		const outer = this.end;
		this.end = this.delimited();
		return outer;
	}

	/** Goes on behind the nested message. */
	leave(outer: number): void {
		this.pos = this.end;
		this.end = outer;
	}

	/** The bytes of a field, not copied. */
	view(): Uint8Array {
		const end = this.delimited();
		const view = this.bytes.subarray(this.pos, end);
		this.pos = end;
		return view;
	}

	/** Steps over the bytes of a field and gives how many they are. */
	skipped(): number {
		const end = this.delimited();
		const bytes = end - this.pos;
		this.pos = end;
		return bytes;
	}

	/** A string field, which must be UTF-8: what a recipient's decoder refuses must not reach it. */
	string(): string {
		const end = this.delimited();
		const start = this.pos;
		this.pos = end;
		const isShort = end - start <= SHORT_STRING;
		if (isShort && isAscii(this.bytes, start, end)) return this.bytes.toString("latin1", start, end);
		if (!isText(this.bytes, start, end)) throw malformed("a string is not UTF-8");
		return this.bytes.toString("utf8", start, end);
	}

	/** A string field that is checked and not decoded. */
	utf8View(): Uint8Array {
		const view = this.view();
		if (!isText(view, 0, view.byteLength)) throw malformed("a string is not UTF-8");
		return view;
	}

	/** Steps over a field of no interest. */
	skip(): void {
		switch (this.wireType) {
			case VARINT:
				this.varint();
				return;
			case DELIMITED:
				this.pos = this.delimited();
				return;
			case FIXED64:
			case FIXED32:
				this.pos += this.wireType === FIXED64 ? 8 : 4;
				if (this.pos > this.end) throw truncated();
				return;
			case GROUP_START:
				this.#skipGroup();
				return;
			default:
				throw malformed(`wire type ${this.wireType} is not supported`);
		}
	}

	/** Groups within it must end as they began, and a recipient's decoder takes no more of them than `MAX_GROUPS`. */
	#skipGroup(): void {
		const open = [this.#field];
		while (open.length > 0) {
			const field = this.next();
			if (field === 0) throw truncated();
			if (this.wireType === GROUP_END) {
				if (open.pop() !== field) throw malformed("a group ends as another");
			} else if (this.wireType === GROUP_START) {
				if (open.length === MAX_GROUPS) throw malformed("groups are nested too deeply");
				open.push(field);
			} else {
				this.skip();
			}
		}
	}

	#expect(wireType: number): void {
		if (this.wireType !== wireType) throw malformed(`a field has wire type ${this.wireType}, not ${wireType}`);
	}
}

function asBuffer(bytes: Uint8Array): Buffer {
	return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Bytes that are not a message. */
function malformed(what: string): HubError {
	return new HubError("MALFORMED_REQUEST", `the request is not a valid message: ${what}`);
}

function truncated(): HubError {
	return malformed("it ends in the middle of a field");
}
