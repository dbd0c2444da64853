import type { KvBytes } from "../kv-store.ts";
import type { ByteChunks, BytePiece } from "./byte-chunks.ts";

/** What is stored under a key: two revisions as little-endian doubles, then the value. */
const HEADER_BYTES = 16;

export interface KvRecord {
	readonly revision: number;
	readonly createRevision: number;
}

/** The record of a value, which is copied. */
export function encodeKvRecord(chunks: ByteChunks, record: KvRecord, value: Uint8Array | KvBytes): BytePiece {
	const piece = chunks.take(HEADER_BYTES + value.byteLength);
	const { chunk, start } = piece;
	chunk.writeDoubleLE(record.revision, start);
	chunk.writeDoubleLE(record.createRevision, start + 8);
	if (value instanceof Uint8Array) chunk.set(value, start + HEADER_BYTES);
	else value.copyTo(chunk, start + HEADER_BYTES);
	return piece;
}

/** The revisions of a stored record, which may be longer than what is read. */
export function decodeKvRecord(stored: Buffer): KvRecord {
	return { revision: stored.readDoubleLE(0), createRevision: stored.readDoubleLE(8) };
}

/** The value of a stored record, as a view. */
export function kvValue(stored: Buffer): Uint8Array {
	return stored.subarray(HEADER_BYTES);
}

/** A copy of a stored record. */
export function copyKvRecord(chunks: ByteChunks, stored: Buffer): BytePiece {
	const { length } = stored;
	const piece = chunks.take(length);
	stored.copy(piece.chunk, piece.start, 0, length);
	return piece;
}
