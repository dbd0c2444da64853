import { HubError } from "../hub-error.ts";
import { compareKeys } from "../state/key-order.ts";
import { type ChangeReader, CompactedError, type KvChange, type KvEntry, type KvStore } from "../state/kv-store.ts";
import { prefixEnd } from "../state/state-backend.ts";
import type { KeyMatcher } from "./entry-query.ts";
import { storeKeys } from "./store-keys.ts";
import { type ToldChange, ToldChanges } from "./told-changes.ts";

/** Where a watch begins: with what is there, after a position, or with what comes. */
export type WatchStart =
	| { readonly from: "snapshot" | "new" }
	| { readonly from: "after"; readonly epoch: string; readonly sequence: bigint };

export interface EntryWatchOptions {
	/** The keyspace of the store. */
	readonly kv: KvStore;
	readonly storeId: string;
	/** Default: all. */
	readonly keys?: KeyMatcher | undefined;
	readonly start: WatchStart;
	/** Default: `WATCH_LIMITS`. */
	readonly limits?: WatchLimits;
}

export interface WatchLimits {
	/** Of one `take`: changes, and about how many bytes of them. */
	readonly batchChanges: number;
	readonly batchBytes: number;
	/** Changes looked at in one `take`; after that others should have a turn. */
	readonly scannedPerTake: number;
	/** A reader that has more than this to read is behind: it is told several changes of a key as one. */
	readonly behindChanges: number;
	readonly behindBytes: number;
}

const MIB = 1024 * 1024;

export const WATCH_LIMITS: WatchLimits = Object.freeze({
	batchChanges: 1000,
	batchBytes: MIB,
	scannedPerTake: 10_000,
	behindChanges: 4000,
	behindBytes: 16 * MIB,
});

const PAGE_ENTRIES = 1000;

/**
 * One reader's view of the entries of a store: what is there, then every change, once and in order, by whatever writes in
 * between.
 *
 *     page 1 at r1 ── changes to r2 of keys up to page 1's end ── page 2 at r2 ── ... ── last page at rn ── changes after rn
 *                                                                                 caught up, position rn ┘
 *
 * A page is what is there at one revision, and is read only when everything that was told before stands at that revision:
 * so what was told is always the state of the keys up to some key at some revision. Of keys beyond it nothing is told, for
 * their page will show it. Reads may show a commit just before the window of changes has it; then the page is thrown away and
 * read again when the window has come to its revision. (Before the first page nothing was told, so it may be of any.)
 *
 * Nothing is held but that key and that revision: a batch is made when it is taken, from what is kept. The position is the
 * revision up to which everything was told, at every moment after the snapshot, and resuming there tells nothing twice. A
 * reader that is behind by thousands of changes is told several changes of a key as one, which ends at the position like the
 * others; one that is overtaken by the window ends with POSITION_TRIMMED.
 */
export class EntryWatch implements Disposable {
	readonly #options: EntryWatchOptions;
	readonly #limits: WatchLimits;
	/** Of the store's keys. */
	readonly #prefix: string;
	readonly #reader: ChangeReader;
	/** The last key of the pages that were told; undefined: none yet. */
	#told: string | undefined;
	#complete: boolean;
	/** The revision at which a resumed reader has been told all that was there when it began. */
	readonly #target: number;
	#caughtUp = false;
	/** What the window has to come to before there is anything to tell but changes. */
	#awaited: number | undefined;
	#idle = false;

	/** Refuses with POSITION_TRIMMED what cannot be resumed. */
	constructor(options: EntryWatchOptions) {
		const { kv, storeId, start } = options;
		this.#options = options;
		this.#limits = options.limits ?? WATCH_LIMITS;
		this.#prefix = storeKeys.entries(storeId);
		this.#complete = start.from !== "snapshot";
		this.#target = kv.revision;
		// What lies ahead of the store is not known either: it may have been put back to what it was before.
		const after = start.from === "after" ? Number(start.sequence) : this.#target;
		this.#reader = kv.read(this.#prefix, after);
		try {
			if (start.from === "after" && start.epoch !== storeId) throw positionTrimmed(this.#reader.oldest);
			this.#next();
		} catch (error) {
			this.#reader[Symbol.dispose]();
			throw error;
		}
	}

	/** The revision to resume after; undefined while the snapshot is not complete. */
	get position(): number | undefined {
		return this.#complete ? this.#reader.revision : undefined;
	}

	/** Whether everything was taken that was there when the watch began. */
	get caughtUp(): boolean {
		this.#caughtUp ||= this.#complete && this.#reader.revision >= this.#target;
		return this.#caughtUp;
	}

	/** Whether the last `take` found that there is nothing to tell now: then it is time to `wait`. */
	get idle(): boolean {
		return this.#idle;
	}

	/**
	 * What is to be told next: at most a thousand changes of about 1 MiB, one at least. Empty where there is nothing, or nothing
	 * in what was looked at. Entries of the snapshot come as changes without an old value. Throws POSITION_TRIMMED where the
	 * window has overtaken the reader.
	 */
	take(): readonly ToldChange[] {
		this.#idle = false;
		this.#awaited = undefined;
		const told = this.#takeChanges();
		if (told.length > 0 || !this.#idle) return told;
		if (!this.#complete) return this.#takePage();
		if (this.#reader.revision < this.#target) this.#awaited = this.#target;
		return told;
	}

	/** Calls `wake` once, as soon as there may be something to take. */
	wait(wake: () => void): void {
		this.#reader.wait(wake, this.#awaited);
	}

	/** Moves the position over what nothing is to be told of. */
	passOver(): void {
		try {
			this.#next();
		} catch {
			// That it was overtaken is for `take` to tell.
		}
	}

	[Symbol.dispose](): void {
		this.#reader[Symbol.dispose]();
	}

	/** Sets `idle` where the changes were read to their end. */
	#takeChanges(): readonly ToldChange[] {
		const limits = this.#limits;
		const { changes, bytes } = this.#reader.unread;
		const isBehind = changes > limits.behindChanges || bytes > limits.behindBytes;
		const told = new ToldChanges(isBehind, limits.batchChanges, limits.batchBytes);
		for (let scanned = 0; scanned < limits.scannedPerTake; ) {
			const commit = this.#next();
			if (commit === undefined) {
				this.#idle = true;
				break;
			}
			scanned += commit.length;
			const mine = commit.filter((change) => this.#concerns(change.key));
			if (!told.fits(mine)) {
				if (told.size === 0) this.#takePart(commit, told);
				break;
			}
			for (const change of mine) told.add(change);
			this.#reader.advance(commit.at(-1)!.revision);
		}
		return told.finish();
	}

	/** As much as fits of a commit that does not fit as a whole. */
	#takePart(commit: readonly KvChange[], told: ToldChanges): void {
		for (const change of commit) {
			if (this.#concerns(change.key)) {
				if (!told.fits([change])) return;
				told.add(change);
			}
			this.#reader.advance(change.revision);
		}
	}

	#takePage(): readonly ToldChange[] {
		this.#idle = false;
		const { kv, keys } = this.#options;
		const first = this.#prefix + (keys?.prefix ?? "");
		const start = this.#told === undefined ? first : `${this.#told}\0`;
		const page = kv.range({ start, end: prefixEnd(this.#prefix), limit: PAGE_ENTRIES });
		if (this.#told !== undefined && page.revision > this.#reader.revision) {
			this.#awaited = page.revision;
			this.#idle = true;
			return [];
		}
		this.#reader.advance(page.revision);
		const last = page.entries.at(-1);
		this.#complete = !page.more || !last!.key.startsWith(first);
		this.#told = last?.key;
		return page.entries.filter(({ key }) => this.#matches(key)).map(snapshotOf);
	}

	#next(): readonly KvChange[] | undefined {
		try {
			return this.#reader.next();
		} catch (error) {
			throw error instanceof CompactedError ? positionTrimmed(error.oldest, error) : error;
		}
	}

	/** Whether a change of this key is to be told now. */
	#concerns(key: string): boolean {
		const isTold = this.#complete || (this.#told !== undefined && compareKeys(key, this.#told) <= 0);
		return isTold && this.#matches(key);
	}

	#matches(key: string): boolean {
		return this.#options.keys?.matches(key.slice(this.#prefix.length)) ?? true;
	}
}

function snapshotOf({ key, value, revision, createRevision }: KvEntry): ToldChange {
	const change: KvChange = { key, value, revision, createRevision, oldRevision: 0, lastOfCommit: false };
	return { first: change, last: change, coalesced: 0 };
}

function positionTrimmed(oldest: number, cause?: unknown): HubError {
	return new HubError("POSITION_TRIMMED", "the changes since then are not kept any more; begin with a snapshot", {
		metadata: { oldest: String(oldest) },
		cause,
	});
}
