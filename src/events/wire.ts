import { isUtf8 } from "node:buffer";

/** The bytes that a varint of this non-negative safe integer takes, 1 to 8. */
export function varintSize(value: number): number {
	if (value < 0x80) return 1;
	if (value < 0x4000) return 2;
	if (value < 0x200000) return 3;
	if (value < 0x10000000) return 4;
	if (value < 0x800000000) return 5;
	let size = 5;
	for (let rest = Math.floor(value / 0x800000000); rest > 0; rest = Math.floor(rest / 0x80)) size++;
	return size;
}

/** Writes a non-negative safe integer as a varint and gives the offset after it. */
export function writeVarint(target: Uint8Array, at: number, value: number): number {
	let rest = value;
	while (rest >= 0x80000000) {
		target[at++] = (rest % 0x80) | 0x80;
		rest = Math.floor(rest / 0x80);
	}
	while (rest >= 0x80) {
		target[at++] = (rest & 0x7f) | 0x80;
		rest >>>= 7;
	}
	target[at++] = rest;
	return at;
}

/** A length-delimited field with a one-byte tag (field 1 to 15). */
export function lengthDelimited(field: number, bytes: Uint8Array): Uint8Array {
	const encoded = new Uint8Array(1 + varintSize(bytes.byteLength) + bytes.byteLength);
	encoded[0] = (field << 3) | 2;
	encoded.set(bytes, writeVarint(encoded, 1, bytes.byteLength));
	return encoded;
}

const JS_SCAN_BYTES = 256;

/** Whether the range is well-formed UTF-8. */
export function isText(bytes: Uint8Array, start: number, end: number): boolean {
	if (end - start > JS_SCAN_BYTES) return isUtf8(bytes.subarray(start, end));
	for (let at = start; at < end; at++) if (bytes[at]! >= 0x80) return isUtf8(bytes.subarray(at, end));
	return true;
}

/** Whether the range holds exactly these bytes. */
export function rangeEquals(bytes: Uint8Array, start: number, end: number, expected: Uint8Array): boolean {
	if (end - start !== expected.byteLength) return false;
	for (let at = 0; at < expected.byteLength; at++) if (bytes[start + at] !== expected[at]) return false;
	return true;
}
