export const VARINT = 0;
export const FIXED64 = 1;
export const DELIMITED = 2;
export const FIXED32 = 5;

const text = new TextDecoder();

/** Calls `read` for each message in a field of this number, with a cursor at its start and the place of its end, where it must leave it. */
export function eachMessage(bytes: Uint8Array, field: number, read: (cursor: WireCursor, end: number) => void): void {
	const cursor = new WireCursor(bytes);
	while (cursor.at < bytes.byteLength) {
		const tag = cursor.varint();
		if (tag !== ((field << 3) | DELIMITED)) {
			cursor.skip(tag & 7);
			continue;
		}
		const length = cursor.varint();
		read(cursor, cursor.at + length);
	}
}

/**
 * Walks over protobuf wire form in place. Bounds are the caller's to keep: a hub is trusted to send what is well formed, and past
 * the end of the bytes nothing is found.
 */
export class WireCursor {
	readonly bytes: Uint8Array;
	/** Where the walk stands. */
	at: number;

	constructor(bytes: Uint8Array, at = 0) {
		this.bytes = bytes;
		this.at = at;
	}

	text(at: number, end: number): string {
		return at === end ? "" : text.decode(this.bytes.subarray(at, end));
	}

	/** A varint of at most 32 bits that matter. */
	varint(): number {
		const bytes = this.bytes;
		let byte = bytes[this.at++]!;
		if (byte < 0x80) return byte;
		let value = byte & 0x7f;
		for (let shift = 7; shift < 70; shift += 7) {
			byte = bytes[this.at++]!;
			if (shift < 32) value |= (byte & 0x7f) << shift;
			if (byte < 0x80) return value >>> 0;
		}
		throw malformed();
	}

	/** A varint of 64 bits: unsigned, and exact in a number up to 2^53. */
	wideVarint(): number {
		const bytes = this.bytes;
		let value = 0;
		let scale = 1;
		for (let count = 0; count < 10; count++) {
			const byte = bytes[this.at++]!;
			value += (byte & 0x7f) * scale;
			if (byte < 0x80) return value;
			scale *= 128;
		}
		throw malformed();
	}

	/** A varint of 64 bits, exact. */
	bigVarint(): bigint {
		const start = this.at;
		const value = this.wideVarint();
		if (value <= Number.MAX_SAFE_INTEGER) return BigInt(value);
		let exact = 0n;
		for (let at = start, shift = 0n; at < this.at; at++, shift += 7n) exact |= BigInt(this.bytes[at]! & 0x7f) << shift;
		return BigInt.asUintN(64, exact);
	}

	skip(wireType: number): void {
		if (wireType === VARINT) this.varint();
		else if (wireType === FIXED64) this.at += 8;
		else if (wireType === FIXED32) this.at += 4;
		else if (wireType === DELIMITED) this.at += this.varint();
		else throw malformed();
	}
}

function malformed(): RangeError {
	return new RangeError("the bytes are not in wire form");
}
