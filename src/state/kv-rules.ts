import { KV_LIMITS, type KvCapabilities, type KvCommit, type KvRange, type KvWrite } from "./kv-store.ts";

const MAX_COMMIT_ID = 64;
/** Of a UTF-16 unit in UTF-8. */
const MAX_UNIT_BYTES = 3;

/** Throws a RangeError unless the commit keeps KV-2 and KV-7. Returns about how many bytes it writes. */
export function checkCommit(commit: KvCommit, { commitWrites }: KvCapabilities): number {
	if (commit.id.length < 1 || commit.id.length > MAX_COMMIT_ID || !commit.id.isWellFormed()) {
		throw new RangeError(`a commit id has 1 to ${MAX_COMMIT_ID} characters`);
	}
	if (commit.writes.length > commitWrites) {
		throw new RangeError(`a commit has at most ${commitWrites} writes`);
	}
	for (const check of commit.checks ?? []) {
		checkKey(check.key);
		checkRevision(check.revision);
	}
	const { writes } = commit;
	let units = 0;
	let bytes = 0;
	for (const write of writes) {
		const { key, value, expected } = write;
		checkKey(key);
		units += key.length;
		bytes += value === undefined ? (write.note?.byteLength ?? 0) : value.byteLength;
		if (expected !== undefined) checkRevision(expected);
	}
	// Few commits are so large that it depends on what their keys are in UTF-8.
	if (bytes + units * MAX_UNIT_BYTES > KV_LIMITS.commitBytes && bytes + keyBytes(writes) > KV_LIMITS.commitBytes) {
		throw new RangeError(`a commit has at most ${KV_LIMITS.commitBytes} bytes`);
	}
	if (writes.length > 1) checkDistinct(writes);
	return bytes + units;
}

/** Throws a RangeError unless the page asked for is a bounded one. */
export function checkRange(query: KvRange): void {
	if (!Number.isInteger(query.limit) || query.limit < 1 || query.limit > KV_LIMITS.pageEntries) {
		throw new RangeError(`a page has 1 to ${KV_LIMITS.pageEntries} entries`);
	}
	checkBoundary(query.start);
	if (query.end !== undefined) checkBoundary(query.end);
}

function checkRevision(revision: number): void {
	if (!Number.isSafeInteger(revision) || revision < 0) throw new RangeError("a revision is 0 or more");
}

/** A boundary need not be a key: it may be empty, or a key of any length with one more character, to begin after it. */
function checkBoundary(boundary: string): void {
	if (!boundary.isWellFormed() || Buffer.byteLength(boundary) > KV_LIMITS.keyBytes + 4) {
		throw new RangeError(`a range starts and ends at well-formed strings of at most ${KV_LIMITS.keyBytes + 4} bytes`);
	}
}

/** KV-7. A lone surrogate has no UTF-8 form and would collide with another key. */
function checkKey(key: string): void {
	if (key === "" || isTooLong(key) || !key.isWellFormed()) {
		throw new RangeError(`a key is well formed and has 1 to ${KV_LIMITS.keyBytes} bytes`);
	}
}

/** KV-7. */
export function isTooLong(key: string): boolean {
	return key.length * MAX_UNIT_BYTES > KV_LIMITS.keyBytes && Buffer.byteLength(key) > KV_LIMITS.keyBytes;
}

function keyBytes(writes: readonly KvWrite[]): number {
	let bytes = 0;
	for (const { key } of writes) bytes += Buffer.byteLength(key);
	return bytes;
}

function checkDistinct(writes: readonly KvWrite[]): void {
	const keys = new Set<string>();
	for (const { key } of writes) keys.add(key);
	if (keys.size < writes.length) throw new RangeError("a commit writes a key once");
}
