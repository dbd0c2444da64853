import { KV_LIMITS, type KvCapabilities, type KvCommit, type KvRange } from "./kv-store.ts";

const MAX_COMMIT_ID = 64;

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
	let bytes = 0;
	for (const write of commit.writes) {
		bytes += checkKey(write.key);
		if (write.value !== undefined) bytes += write.value.byteLength;
		else bytes += write.note?.byteLength ?? 0;
		if (write.expected !== undefined) checkRevision(write.expected);
	}
	if (bytes > KV_LIMITS.commitBytes) throw new RangeError(`a commit has at most ${KV_LIMITS.commitBytes} bytes`);
	if (commit.writes.length > 1 && new Set(commit.writes.map((write) => write.key)).size < commit.writes.length) {
		throw new RangeError("a commit writes a key once");
	}
	return bytes;
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

/** KV-7. Returns the key's length in bytes. A lone surrogate has no UTF-8 form and would collide with another key. */
function checkKey(key: string): number {
	const bytes = Buffer.byteLength(key);
	if (bytes < 1 || bytes > KV_LIMITS.keyBytes || !key.isWellFormed()) {
		throw new RangeError(`a key is well formed and has 1 to ${KV_LIMITS.keyBytes} bytes`);
	}
	return bytes;
}
