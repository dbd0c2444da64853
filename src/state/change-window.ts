import { CompactedError, type KvChange } from "./kv-store.ts";

export interface ChangeWindowOptions {
	/** Prefixes whose changes are kept. */
	readonly prefixes: readonly string[];
	/** Milliseconds, for the bound by age. */
	readonly now: () => number;
	/** The revision that readers of the store can see now. */
	readonly revision: () => number;
	/** Changes before this revision are not in the window. */
	readonly start: number;
	readonly maxChanges?: number;
	readonly maxBytes?: number;
	readonly maxAgeMs?: number;
}

/** The changes that one commit made under the kept prefixes. */
interface Commit {
	readonly revision: number;
	readonly changes: readonly KvChange[];
	readonly bytes: number;
	readonly time: number;
}

/** A watch that has read everything and waits. */
interface Waiter {
	readonly prefix: string;
	/** The last revision it has read or has no interest in. */
	cursor: number;
	wake(): void;
}

const BATCH_CHANGES = 1000;

/**
 * KV-5: the recent changes of a store, and the watches on them.
 *
 * A watch holds a revision and no queue, so a slow one costs nothing and finds out by itself that it was overtaken.
 * Bounded by changes (10,000), bytes (64 MiB) and age (10 minutes) unless told otherwise.
 */
export class ChangeWindow {
	readonly #options: Required<ChangeWindowOptions>;
	#commits: Commit[] = [];
	#head = 0;
	#changes = 0;
	#bytes = 0;
	/** The newest revision whose changes are no longer here. */
	#oldest: number;
	#closed = false;
	readonly #waiters = new Set<Waiter>();

	constructor(options: ChangeWindowOptions) {
		this.#options = { maxChanges: 10_000, maxBytes: 64 * 1024 * 1024, maxAgeMs: 600_000, ...options };
		this.#oldest = options.start;
	}

	/** Whether changes of keys under `prefix` are kept. */
	keeps(prefix: string): boolean {
		return this.#options.prefixes.some((kept) => prefix.startsWith(kept));
	}

	/** Adds the kept changes of one settled commit. Commits come in the order of their revisions. */
	push(revision: number, changes: readonly KvChange[]): void {
		if (changes.length > 0) {
			let bytes = 0;
			for (const { key, value, oldValue, note } of changes) {
				bytes += key.length + (value?.byteLength ?? 0) + (oldValue?.byteLength ?? 0) + (note?.byteLength ?? 0);
			}
			this.#commits.push({ revision, changes, bytes, time: this.#options.now() });
			this.#changes += changes.length;
			this.#bytes += bytes;
			this.#prune();
		}
		for (const waiter of [...this.#waiters]) {
			if (changes.some((change) => change.key.startsWith(waiter.prefix))) waiter.wake();
			else waiter.cursor = Math.max(waiter.cursor, revision);
		}
	}

	/** KV-5. */
	watch(prefix: string, options: { after?: number; signal: AbortSignal }): AsyncIterable<readonly KvChange[]> {
		if (!this.keeps(prefix)) throw new RangeError(`the changes under ${JSON.stringify(prefix)} are not kept`);
		const start = options.after ?? this.#options.revision();
		return { [Symbol.asyncIterator]: () => this.#iterate(prefix, start, options.signal) };
	}

	/** Ends every watch without an error. */
	close(): void {
		this.#closed = true;
		for (const waiter of [...this.#waiters]) waiter.wake();
	}

	#iterate(prefix: string, after: number, signal: AbortSignal): AsyncIterator<readonly KvChange[]> {
		const waiter: Waiter = { prefix, cursor: after, wake: () => {} };
		let ended = false;
		return {
			next: async () => {
				while (!ended && !this.#closed && !signal.aborted) {
					const batch = this.#read(waiter);
					if (batch.length > 0) return { done: false, value: batch };
					await this.#wait(waiter, signal);
				}
				ended = true;
				return { done: true, value: undefined };
			},
			return: async () => {
				ended = true;
				waiter.wake();
				return { done: true, value: undefined };
			},
		};
	}

	/** Whole commits past the cursor, until about a thousand changes are found or the window ends. Moves the cursor. */
	#read(waiter: Waiter): KvChange[] {
		this.#prune();
		if (waiter.cursor < this.#oldest || waiter.cursor > this.#options.revision()) {
			throw new CompactedError(this.#oldest);
		}
		const batch: KvChange[] = [];
		for (let index = this.#indexAfter(waiter.cursor); index < this.#commits.length; index++) {
			const commit = this.#commits[index]!;
			const found = commit.changes.filter((c) => c.key.startsWith(waiter.prefix) && c.revision > waiter.cursor);
			for (let i = 0; i < found.length; i++) {
				const change = found[i]!;
				// What follows in the commit is outside the prefix, so resuming after this change misses nothing.
				batch.push(i === found.length - 1 && !change.lastOfCommit ? { ...change, lastOfCommit: true } : change);
			}
			waiter.cursor = commit.revision;
			if (batch.length >= BATCH_CHANGES) break;
		}
		return batch;
	}

	#wait(waiter: Waiter, signal: AbortSignal): Promise<void> {
		return new Promise((resolve) => {
			waiter.wake = () => {
				this.#waiters.delete(waiter);
				signal.removeEventListener("abort", waiter.wake);
				waiter.wake = () => {};
				resolve();
			};
			this.#waiters.add(waiter);
			signal.addEventListener("abort", waiter.wake);
		});
	}

	#indexAfter(revision: number): number {
		let low = this.#head;
		let high = this.#commits.length;
		while (low < high) {
			const middle = (low + high) >>> 1;
			if (this.#commits[middle]!.revision <= revision) low = middle + 1;
			else high = middle;
		}
		return low;
	}

	#prune(): void {
		const expired = this.#options.now() - this.#options.maxAgeMs;
		while (this.#head < this.#commits.length) {
			const commit = this.#commits[this.#head]!;
			const fits = this.#changes <= this.#options.maxChanges && this.#bytes <= this.#options.maxBytes;
			if (fits && commit.time >= expired) break;
			this.#changes -= commit.changes.length;
			this.#bytes -= commit.bytes;
			this.#oldest = commit.revision;
			this.#head++;
		}
		if (this.#head > 1024 && this.#head * 2 > this.#commits.length) {
			this.#commits = this.#commits.slice(this.#head);
			this.#head = 0;
		}
	}
}
