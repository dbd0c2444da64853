import { varintSize } from "./varint.ts";

/** Bytes of a string field whose number is below 16, tag and length included. */
export function stringSize(value: string): number {
	const bytes = Buffer.byteLength(value);
	return 1 + varintSize(bytes) + bytes;
}

/** The same for a string that is known to be ASCII, such as a plugin's id: its bytes need not be counted. */
export function asciiSize(value: string): number {
	return 1 + varintSize(value.length) + value.length;
}
