/** What is stored under a key: two revisions as little-endian doubles, then the value. */
const HEADER_BYTES = 16;

export interface KvRecord {
	readonly revision: number;
	readonly createRevision: number;
}

export function encodeKvRecord(record: KvRecord, value: Uint8Array): Uint8Array {
	const stored = Buffer.allocUnsafe(HEADER_BYTES + value.byteLength);
	stored.writeDoubleLE(record.revision, 0);
	stored.writeDoubleLE(record.createRevision, 8);
	stored.set(value, HEADER_BYTES);
	return stored;
}

/** The revisions of a stored record, which may be longer than what is read. */
export function decodeKvRecord(stored: Buffer): KvRecord {
	return { revision: stored.readDoubleLE(0), createRevision: stored.readDoubleLE(8) };
}

/** The value of a stored record, as a view. */
export function kvValue(stored: Buffer): Uint8Array {
	return stored.subarray(HEADER_BYTES);
}
