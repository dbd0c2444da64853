import { GatheredBytes } from "./gathered-bytes.ts";

/** A flag byte and a 32-bit length. */
const PREFIX_BYTES = 5;

/** How many bytes wait now. May throw where they are too many. */
export type Held = (bytes: number) => void;

/**
 * Hands on each whole envelope of a body as one chunk, because the library copies an unfinished one at every chunk. From
 * one that is larger than `maxBytes` on, everything is handed on as it comes, for the library to refuse; so is the end of
 * a body that stops in the middle.
 */
export async function* gatherEnvelopes(
	chunks: AsyncIterable<Uint8Array>,
	maxBytes: number,
	held: Held,
): AsyncGenerator<Uint8Array> {
	const waiting = new GatheredBytes();
	let wanted = PREFIX_BYTES;
	for await (const chunk of chunks) {
		waiting.push(chunk);
		if (waiting.byteLength < wanted) {
			held(waiting.byteLength);
			continue;
		}
		const bytes = waiting.take();
		let offset = 0;
		wanted = PREFIX_BYTES;
		while (bytes.byteLength - offset >= PREFIX_BYTES) {
			const length = new DataView(bytes.buffer, bytes.byteOffset + offset + 1, 4).getUint32(0);
			const end = offset + PREFIX_BYTES + length;
			if (length > maxBytes) {
				wanted = 0;
				break;
			}
			if (end > bytes.byteLength) {
				wanted = PREFIX_BYTES + length;
				break;
			}
			held(bytes.byteLength - offset);
			yield bytes.subarray(offset, end);
			offset = end;
		}
		if (offset < bytes.byteLength) {
			const rest = bytes.subarray(offset);
			if (wanted === 0) yield rest;
			else waiting.push(rest);
		}
		held(waiting.byteLength);
	}
	if (waiting.byteLength > 0) yield waiting.take();
}

/** Hands on a whole body as one chunk; from more than `maxBytes` on, as it comes, for the library to refuse. */
export async function* gatherAll(
	chunks: AsyncIterable<Uint8Array>,
	maxBytes: number,
	held: Held,
): AsyncGenerator<Uint8Array> {
	const waiting = new GatheredBytes();
	for await (const chunk of chunks) {
		waiting.push(chunk);
		held(waiting.byteLength);
		if (waiting.byteLength > maxBytes) yield waiting.take();
	}
	if (waiting.byteLength > 0) yield waiting.take();
	held(0);
}
