import { varintSize, writeVarint } from "./varint.ts";
import { timeSize, writeTime } from "./wire-time.ts";

/** Where written bytes gather first; a larger message grows its own. */
const INITIAL_BYTES = 512;

/**
 * Writes protobuf wire form into one growing buffer. Fields with their default value are the caller's to leave out.
 * A nested message is a `header` with its length, then its fields.
 */
export class WireWriter {
	#buffer: Buffer;
	#length = 0;

	/** `capacity`: bytes that will probably be written. */
	constructor(capacity: number = INITIAL_BYTES) {
		this.#buffer = Buffer.allocUnsafe(capacity);
	}

	get length(): number {
		return this.#length;
	}

	/** A field of kind varint: an integer of 0 to 2^53, a bool or a uint64. */
	varint(field: number, value: number | bigint | boolean): void {
		this.#reserve(16);
		this.#raw(field * 8);
		if (typeof value === "bigint") this.#rawBig(value);
		else this.#raw(Number(value));
	}

	bytes(field: number, value: Uint8Array): void {
		this.#reserve(value.byteLength + 16);
		this.#raw(field * 8 + 2);
		this.#raw(value.byteLength);
		this.#buffer.set(value, this.#length);
		this.#length += value.byteLength;
	}

	string(field: number, value: string): void {
		// A UTF-16 unit is at most three bytes of UTF-8.
		this.#reserve(value.length * 3 + 16);
		this.#raw(field * 8 + 2);
		if (value.length < 43) {
			// At most 126 bytes, so the length is one byte, known afterwards.
			const at = this.#length++;
			if (this.#ascii(value)) {
				this.#buffer[at] = value.length;
				return;
			}
			const written = this.#buffer.write(value, this.#length, "utf8");
			this.#buffer[at] = written;
			this.#length += written;
		} else {
			this.#raw(Buffer.byteLength(value));
			this.#length += this.#buffer.write(value, this.#length, "utf8");
		}
	}

	/** Milliseconds as a duration, or as a timestamp since 1970. What is below 0 counts as 0. */
	time(field: number, ms: number): void {
		this.#reserve(32);
		this.#raw(field * 8 + 2);
		this.#raw(timeSize(ms));
		this.#length = writeTime(this.#buffer, this.#length, ms);
	}

	/** Bytes that are fields already. */
	append(value: Uint8Array): void {
		this.#reserve(value.byteLength);
		this.#buffer.set(value, this.#length);
		this.#length += value.byteLength;
	}

	/** The same for a part of some bytes. */
	appendRange(bytes: Uint8Array, start: number, end: number): void {
		this.#reserve(end - start);
		if (start === 0 && end === bytes.byteLength) this.#buffer.set(bytes, this.#length);
		else if (Buffer.isBuffer(bytes)) bytes.copy(this.#buffer, this.#length, start, end);
		else this.#buffer.set(bytes.subarray(start, end), this.#length);
		this.#length += end - start;
	}

	/** Begins a nested message of known length: exactly `length` bytes are to be written next. */
	header(field: number, length: number): void {
		this.#reserve(16);
		this.#raw(field * 8 + 2);
		this.#raw(length);
	}

	/** What was written. The writer must not be used again. */
	finish(): Uint8Array {
		return this.#buffer.subarray(0, this.#length);
	}

	/** Writes a text that is ASCII, as most short ones are: a loop is cheaper than a call into the runtime. */
	#ascii(value: string): boolean {
		const buffer = this.#buffer;
		const start = this.#length;
		const { length } = value;
		for (let at = 0; at < length; at++) {
			const unit = value.charCodeAt(at);
			if (unit >= 0x80) return false;
			buffer[start + at] = unit;
		}
		this.#length = start + length;
		return true;
	}

	#raw(value: number): void {
		this.#length = writeVarint(this.#buffer, this.#length, value);
	}

	#rawBig(value: bigint): void {
		let rest = value;
		while (rest > 0x7fn) {
			this.#buffer[this.#length++] = Number(rest & 0x7fn) | 0x80;
			rest >>= 7n;
		}
		this.#buffer[this.#length++] = Number(rest);
	}

	#reserve(bytes: number): void {
		const needed = this.#length + bytes;
		if (needed <= this.#buffer.length) return;
		const grown = Buffer.allocUnsafe(Math.max(needed, this.#buffer.length * 2));
		grown.set(this.#buffer.subarray(0, this.#length));
		this.#buffer = grown;
	}
}

/** One length-delimited field as bytes of its own. */
export function lengthDelimited(field: number, value: Uint8Array): Uint8Array {
	const tag = field * 8 + 2;
	const encoded = new Uint8Array(varintSize(tag) + varintSize(value.byteLength) + value.byteLength);
	encoded.set(value, writeVarint(encoded, writeVarint(encoded, 0, tag), value.byteLength));
	return encoded;
}
