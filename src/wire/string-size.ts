import { varintSize } from "./varint.ts";

const LOOP_LENGTH = 64;

/** Bytes of a string field whose number is below 16, tag and length included. */
export function stringSize(value: string): number {
	const bytes = utf8Size(value);
	return 1 + varintSize(bytes) + bytes;
}

/** Bytes of the text. A short ASCII one, as most are, costs no call into the runtime. */
function utf8Size(value: string): number {
	const { length } = value;
	if (length > LOOP_LENGTH) return Buffer.byteLength(value);
	for (let at = 0; at < length; at++) if (value.charCodeAt(at) >= 0x80) return Buffer.byteLength(value);
	return length;
}

/** The same for a string that is known to be ASCII, such as a plugin's id: its bytes need not be counted. */
export function asciiSize(value: string): number {
	return 1 + varintSize(value.length) + value.length;
}
