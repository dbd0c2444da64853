/**
 * One ordered keyspace for the hub. Subsystems own prefixes of it (`plugin/`, `policy/`, ...). Keys are well-formed
 * strings, ordered by their UTF-8 bytes; values are bytes.
 *
 * Guarantees, quoted by the contract suite:
 *
 * - KV-1 `get` and `range` are synchronous, give bounded pages (never an open iterator) and the revision they read at.
 *   On one node reads are monotonic and see the node's own settled writes. They never show a write that is not yet
 *   acknowledged as stored. After `barrier()` the next read is linearizable across nodes.
 * - KV-2 `commit` applies all of its writes or none: at most `capabilities.commitWrites` writes and 4 MiB, a key written at most once; checks
 *   may name keys that are not written. What a write expects is a check of its key.
 * - KV-3 Each write has its own, increasing revision; those of one commit are consecutive and become visible together.
 *   A watch resumes only at a commit's boundary.
 * - KV-4 A rejection is CONFLICT (nothing written; the actual revisions are given) or UNKNOWN (the outcome is not known;
 *   the same commit id, repeated, settles it: it is applied once at most). Spurious conflicts are retried inside.
 * - KV-5 `watch` and `read` serve a window of past changes, bounded by count, bytes and age, with old values and the notes of
 *   deletes; an older start is refused as COMPACTED. Which prefixes keep a window, and which of them share one, is fixed when
 *   the store is opened (`watched-groups.ts`): changes under others push nothing out of it.
 * - KV-6 A missing key and a deleted key look alike: no live value. Nothing expires by itself; expiry is a commit with a
 *   revision check made by the owner.
 * - KV-7 Keys are 1 to 1,024 bytes in UTF-8, prefix included.
 */
export interface KvStore {
	readonly capabilities: KvCapabilities;
	/** The revision of the last settled commit; 0 for an empty store. */
	readonly revision: number;
	/** KV-1. The live entry, or undefined. */
	get(key: string): KvEntry | undefined;
	/** KV-1. Entries with `start <= key < end`, in key order or reversed, at most `limit` (1 to 1,000) and about 1 MiB. */
	range(query: KvRange): KvPage;
	/** KV-2, KV-3, KV-4. Settles once the writes are durable (where the store is) and visible. */
	commit(commit: KvCommit): Promise<KvCommitResult>;
	/**
	 * KV-5. Batches of changes under `prefix` with revision > `after`, in order, whole commits only, until `signal` aborts
	 * (then it ends without an error). `after` defaults to the present revision. A reader too slow for the window ends
	 * with `CompactedError`, as does a start older than it or one that this store has not reached yet. The watch is in place when the call returns: no change made
	 * after it is missed.
	 */
	watch(prefix: string, options: { after?: number; signal: AbortSignal }): AsyncIterable<readonly KvChange[]>;
	/**
	 * KV-5. The same for one who reads when it suits him: a place among the changes under `prefix`, after the revision `after`
	 * (default: the present one), which may lie inside a commit. Never fails; what is not kept is found out by reading.
	 */
	read(prefix: string, after?: number): ChangeReader;
	/** KV-1. Resolves once this node's view includes everything committed anywhere before the call. */
	barrier(): Promise<void>;
}

export interface KvCapabilities {
	/** Whether acknowledged commits survive a crash of the process and of the machine. */
	readonly durable: boolean;
	/** Whether several hubs see this store. */
	readonly shared: boolean;
	/** Writes that one commit may have: `KV_LIMITS.commitWrites` or more. */
	readonly commitWrites: number;
}

export interface KvEntry {
	readonly key: string;
	/** Valid for as long as it is referenced; the caller must not change it. */
	readonly value: Uint8Array;
	/** The revision of the write that made this value. */
	readonly revision: number;
	/** The revision of the write that brought the key to life. */
	readonly createRevision: number;
}

export interface KvRange {
	readonly start: string;
	/** Exclusive; undefined means to the end of the keyspace. `prefixEnd` makes one for a prefix. */
	readonly end?: string;
	readonly limit: number;
	readonly reverse?: boolean;
}

export interface KvPage {
	readonly entries: readonly KvEntry[];
	/** Whether entries beyond this page exist in the range. */
	readonly more: boolean;
	/** The revision the page was read at. */
	readonly revision: number;
}

export interface KvCheck {
	readonly key: string;
	/** The revision the key must have; 0 means that it must not exist. */
	readonly revision: number;
}

/** Bytes that copy themselves to where they are kept: a part of a buffer that others share, without a view of it. */
export interface KvBytes {
	readonly byteLength: number;
	copyTo(target: Buffer, at: number): void;
}

/** The value must not change until the commit has settled. */
export type KvWrite = (
	| { readonly key: string; readonly value: Uint8Array | KvBytes; readonly delete?: undefined }
	| {
			readonly key: string;
			readonly value?: undefined;
			readonly delete: true;
			/** For watches alone: what they are to know of the deletion. Counts as bytes of the commit. */
			readonly note?: Uint8Array | undefined;
	  }
) & {
	/** The revision that the key must have, as a check of it would say. Undefined: any. */
	readonly expected?: number;
	/** Watches are not told: what nobody can be watching is moved in or cleared away without pushing out of the window what they can. */
	readonly silent?: boolean;
};

export interface KvCommit {
	/**
	 * Unique to this commit, at most 64 characters; a repeat within two minutes (or 100,000 commits) of one that was applied
	 * returns its outcome. A commit that was refused is not remembered, nor is one without writes: a repeat is tried anew.
	 */
	readonly id: string;
	readonly checks?: readonly KvCheck[];
	readonly writes: readonly KvWrite[];
}

export type KvCommitResult =
	| {
			readonly ok: true;
			/** The revision of the first write; write `i` has `firstRevision + i`. */
			readonly firstRevision: number;
			/** The revision of the last write, which is what a watch resumes after. */
			readonly revision: number;
	  }
	| {
			readonly ok: false;
			/** Every check that failed, those of writes last, with what the key has now (0: absent). */
			readonly conflicts: readonly { readonly key: string; readonly actual: number }[];
	  };

export interface KvChange {
	readonly key: string;
	/** Undefined for a delete. */
	readonly value?: Uint8Array;
	/** Undefined where the key did not live before. */
	readonly oldValue?: Uint8Array;
	/** Of a delete: the note that it was given. */
	readonly note?: Uint8Array;
	readonly revision: number;
	/** The revision of the write that brought the key to life; of a delete: that had brought it. */
	readonly createRevision: number;
	/** The revision of the old value; 0 where there is none. */
	readonly oldRevision: number;
	/** True on the last change of its commit under the watched prefix: a watch may be resumed after this revision. */
	readonly lastOfCommit: boolean;
}

/**
 * A place among the kept changes under a prefix. It holds nothing but a revision: what is not read in time is let go of, and
 * reading then fails with `CompactedError`. Every change that was made after the place is read once, in order.
 */
export interface ChangeReader extends Disposable {
	/** Every change up to here is read. May be resumed after. */
	readonly revision: number;
	/** The oldest revision that can be read after. */
	readonly oldest: number;
	/** About how much is to be read: at most what one commit has is counted too much. */
	readonly unread: { readonly changes: number; readonly bytes: number };
	/**
	 * What the next commit changed under the prefix, as far as it is not read; undefined: there is nothing now. The same again
	 * until `advance`.
	 */
	next(): readonly KvChange[] | undefined;
	/** Takes what was changed up to this revision as read. */
	advance(revision: number): void;
	/**
	 * To be called when `next` gave nothing: calls `wake` once, as soon as it may give something, or `revision` has been
	 * come to. Of several waits the last counts. `wake` must not throw, nor read at once.
	 */
	wait(wake: () => void, revision?: number): void;
}

export const KV_LIMITS = Object.freeze({
	keyBytes: 1024,
	/** What every store takes. */
	commitWrites: 1000,
	commitBytes: 4 * 1024 * 1024,
	pageEntries: 1000,
	pageBytes: 1024 * 1024,
});

/** KV-5: the changes asked for are no longer kept. Read a snapshot and watch from its revision. */
export class CompactedError extends Error {
	override readonly name = "CompactedError";
	/** The oldest revision a watch may start after. */
	readonly oldest: number;
	constructor(oldest: number) {
		super(`changes before revision ${oldest} are compacted`);
		this.oldest = oldest;
	}
}

/** KV-4 UNKNOWN, and any other storage fault. `outcome` says whether the write may have happened. */
export class StorageError extends Error {
	override readonly name = "StorageError";
	readonly kind: "full" | "unavailable" | "fatal";
	readonly outcome: "not-written" | "unknown";
	constructor(
		kind: "full" | "unavailable" | "fatal",
		outcome: "not-written" | "unknown",
		message: string,
		cause?: unknown,
	) {
		super(message, { cause });
		this.kind = kind;
		this.outcome = outcome;
	}
}
