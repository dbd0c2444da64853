/** Room that a chunk has beyond the item that it is made for. */
const CHUNK_BYTES = 64 * 1024;
/** The largest chunk that several items share. */
const MAX_SHARED_BYTES = 2 * CHUNK_BYTES;
/** ASCII text up to this many characters is written faster by a loop than by a call into the runtime. */
const LOOP_LENGTH = 40;
/** A longer text is encoded apart, so that no chunk is made three times too large for the worst case of UTF-8. */
const IN_PLACE_LENGTH = 4 * 1024;
/** A tag and a length. */
const HEADER_BYTES = 6;
const TIME_BYTES = 22;

const encoder = new TextEncoder();

/**
 * Writes protobuf items one behind the other into chunks; each is a range of one chunk. Tags take one byte, so fields go
 * up to 15. A chunk lives for as long as anybody holds one of its items.
 */
export class WireOutput {
	#chunk = new Uint8Array(0);
	#start = 0;
	#at = 0;

	/** Where the item that is being written stands. */
	get chunk(): Uint8Array {
		return this.#chunk;
	}

	get start(): number {
		return this.#start;
	}

	get end(): number {
		return this.#at;
	}

	/**
	 * Begins an item. What was written of one that was not finished stays unused. A chunk that was made for a large item takes no
	 * other: a small one that is held for long must not keep it.
	 */
	begin(): void {
		if (this.#chunk.byteLength > MAX_SHARED_BYTES) {
			this.#chunk = new Uint8Array(0);
			this.#at = 0;
		}
		this.#start = this.#at;
	}

	/** Begins a nested message of about `expected` bytes; gives the mark that `close` takes with the same expectation. */
	open(tag: number, expected: number): number {
		this.#reserve(HEADER_BYTES);
		this.#chunk[this.#at] = tag;
		this.#at += 1 + lengthSize(expected);
		return this.#at - this.#start;
	}

	/** Ends a nested message. */
	close(mark: number, expected: number): void {
		this.#reserve(HEADER_BYTES);
		const from = this.#start + mark;
		this.#fillLength(from, this.#at - from, lengthSize(expected));
	}

	/** Other values than strings are written as `String` gives them. */
	string(tag: number, value: string): void {
		const text = typeof value === "string" ? value : String(value);
		const { length } = text;
		if (length > IN_PLACE_LENGTH) {
			this.bytes(tag, encoder.encode(text));
			return;
		}
		this.#reserve(HEADER_BYTES + length * 3);
		const chunk = this.#chunk;
		chunk[this.#at] = tag;
		const from = this.#at + 1 + lengthSize(length);
		if (length <= LOOP_LENGTH) {
			let index = 0;
			for (; index < length; index++) {
				const code = text.charCodeAt(index);
				if (code >= 0x80) break;
				chunk[from + index] = code;
			}
			if (index === length) {
				chunk[from - 1] = length;
				this.#at = from + length;
				return;
			}
		}
		const { written } = encoder.encodeInto(text, chunk.subarray(from));
		this.#at = from + written;
		this.#fillLength(from, written, lengthSize(length));
	}

	bytes(tag: number, value: Uint8Array): void {
		const { byteLength } = value;
		this.#reserve(HEADER_BYTES + byteLength);
		this.#chunk[this.#at++] = tag;
		this.#varint(byteLength);
		this.#chunk.set(value, this.#at);
		this.#at += byteLength;
	}

	/** Bytes that are fields already. */
	append(value: Uint8Array): void {
		this.#reserve(value.byteLength);
		this.#chunk.set(value, this.#at);
		this.#at += value.byteLength;
	}

	/** A safe integer that is not negative. */
	uint(tag: number, value: number): void {
		this.#reserve(HEADER_BYTES + 4);
		this.#chunk[this.#at++] = tag;
		this.#varint(value);
	}

	/** A `google.protobuf.Timestamp` of milliseconds since 1970. Throws a RangeError where they are no time. */
	timestamp(tag: number, ms: number): void {
		this.#secondsAndNanos(tag, ms, "not a valid time");
	}

	/** A `google.protobuf.Duration` of milliseconds. Throws a RangeError where they are none. */
	duration(tag: number, ms: number): void {
		this.#secondsAndNanos(tag, ms, "not a valid duration");
	}

	#secondsAndNanos(tag: number, ms: number, problem: string): void {
		const seconds = Math.floor(ms / 1000);
		if (!Number.isSafeInteger(seconds)) throw new RangeError(problem);
		this.time(tag, seconds, Math.round((ms - seconds * 1000) * 1e6));
	}

	/** A `google.protobuf.Timestamp` or `Duration`. */
	time(tag: number, seconds: number, nanos: number): void {
		this.#reserve(HEADER_BYTES + TIME_BYTES);
		const chunk = this.#chunk;
		chunk[this.#at++] = tag;
		const from = ++this.#at;
		if (seconds !== 0) {
			chunk[this.#at++] = 0x08;
			this.#signed(seconds);
		}
		if (nanos !== 0) {
			chunk[this.#at++] = 0x10;
			this.#signed(nanos);
		}
		chunk[from - 1] = this.#at - from;
	}

	#varint(value: number): void {
		const chunk = this.#chunk;
		let at = this.#at;
		let rest = value;
		for (; rest >= 0x80000000; rest = Math.floor(rest / 0x80)) chunk[at++] = (rest % 0x80) | 0x80;
		for (; rest >= 0x80; rest >>>= 7) chunk[at++] = (rest & 0x7f) | 0x80;
		chunk[at++] = rest;
		this.#at = at;
	}

	/** Two's complement in 64 bits. */
	#signed(value: number): void {
		if (value >= 0) {
			this.#varint(value);
			return;
		}
		let rest = BigInt.asUintN(64, BigInt(value));
		for (; rest >= 0x80n; rest >>= 7n) this.#chunk[this.#at++] = Number(rest & 0x7fn) | 0x80;
		this.#chunk[this.#at++] = Number(rest);
	}

	/** Writes the length of what follows `from`, before which `room` bytes were left for it; moves that where it takes others. */
	#fillLength(from: number, length: number, room: number): void {
		const size = lengthSize(length);
		const start = from - room;
		if (size !== room) this.#chunk.copyWithin(start + size, from, from + length);
		this.#at = start;
		this.#varint(length);
		this.#at += length;
	}

	/** Makes room; an item for which its chunk has none moves to a new one. */
	#reserve(bytes: number): void {
		if (this.#at + bytes <= this.#chunk.byteLength) return;
		const written = this.#at - this.#start;
		const chunk = new Uint8Array(written + bytes + CHUNK_BYTES);
		chunk.set(this.#chunk.subarray(this.#start, this.#at));
		this.#chunk = chunk;
		this.#start = 0;
		this.#at = written;
	}
}

/** The bytes of a length below 2 GiB as a varint. */
function lengthSize(length: number): number {
	if (length < 0x80) return 1;
	if (length < 0x4000) return 2;
	if (length < 0x200000) return 3;
	return length < 0x10000000 ? 4 : 5;
}
