import type { KvBytes } from "./kv-store.ts";

/** A record: two revisions as little-endian doubles, then the value. */
export const RECORD_HEADER_BYTES = 16;

export interface KvRecord {
	readonly revision: number;
	readonly createRevision: number;
}

/** Writes the record of a value, which is copied. */
export function writeKvRecord(
	target: Buffer,
	start: number,
	revision: number,
	createRevision: number,
	value: Uint8Array | KvBytes,
): void {
	target.writeDoubleLE(revision, start);
	target.writeDoubleLE(createRevision, start + 8);
	if (value instanceof Uint8Array) target.set(value, start + RECORD_HEADER_BYTES);
	else value.copyTo(target, start + RECORD_HEADER_BYTES);
}

/** The record of a value, in a buffer of its own. */
export function encodeKvRecord({ revision, createRevision }: KvRecord, value: Uint8Array): Buffer {
	const record = Buffer.allocUnsafe(RECORD_HEADER_BYTES + value.byteLength);
	writeKvRecord(record, 0, revision, createRevision, value);
	return record;
}

/** The revisions of a stored record, which may be longer than what is read. */
export function decodeKvRecord(stored: Buffer): KvRecord {
	return { revision: revisionOf(stored), createRevision: createRevisionOf(stored) };
}

/** Of the record that begins there. */
export function revisionOf(stored: Buffer, start = 0): number {
	return stored.readDoubleLE(start);
}

/** Of the record that begins there. */
export function createRevisionOf(stored: Buffer, start = 0): number {
	return stored.readDoubleLE(start + 8);
}

/** The value of a stored record, as a view. */
export function kvValue(stored: Buffer): Uint8Array {
	return stored.subarray(RECORD_HEADER_BYTES);
}
