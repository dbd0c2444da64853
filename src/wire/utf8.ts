import { isUtf8 } from "node:buffer";

/** Up to this many bytes a loop is cheaper than a call into the runtime. */
const LOOP_BYTES = 256;

/** Whether the range is ASCII. */
export function isAscii(bytes: Uint8Array, start: number, end: number): boolean {
	for (let at = start; at < end; at++) if (bytes[at]! >= 0x80) return false;
	return true;
}

/** Whether the range is well-formed UTF-8. */
export function isText(bytes: Uint8Array, start: number, end: number): boolean {
	if (end - start <= LOOP_BYTES && isAscii(bytes, start, end)) return true;
	return isUtf8(bytes.subarray(start, end));
}
