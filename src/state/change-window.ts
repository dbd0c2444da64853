import { ChangeGroup } from "./change-group.ts";
import type { ChangeReader, KvChange } from "./kv-store.ts";
import { WATCHED_GROUPS, type WatchedGroup } from "./watched-groups.ts";
import { WindowReader } from "./window-reader.ts";

export interface ChangeWindowOptions {
	/** Default: `WATCHED_GROUPS`. */
	readonly groups?: readonly WatchedGroup[];
	/** Milliseconds, for the bound by age. */
	readonly now: () => number;
	/** The revision that readers of the store can see now; the window may be a little behind it. */
	readonly revision: () => number;
	/** Changes before this revision are not in the window. */
	readonly start: number;
	/** Writes that one commit of the store has at most. */
	readonly commitWrites: number;
}

const BATCH_CHANGES = 1000;

/**
 * KV-5: the recent changes of a store, and who reads them.
 *
 * A reader holds a revision and no queue, so a slow one costs nothing and finds out by itself that it was overtaken. What a
 * commit costs grows with those who wait for what it changes, not with those who watch something else.
 */
export class ChangeWindow {
	readonly #options: ChangeWindowOptions;
	readonly #groups: readonly ChangeGroup[];
	/** All changes up to it are here or were. */
	#revision: number;
	#closed = false;
	readonly #waiting = new Set<WindowReader>();
	/** Readers that wait for the window to come to a revision. Rarely any, and never for long. */
	readonly #behind = new Set<WindowReader>();

	constructor(options: ChangeWindowOptions) {
		this.#options = options;
		this.#revision = options.start;
		const { groups = WATCHED_GROUPS, now, start, commitWrites } = options;
		this.#groups = groups.map((group) => new ChangeGroup(group, now, start, commitWrites));
	}

	/** Where changes of this key are kept; undefined: nowhere. */
	groupOf(key: string): ChangeGroup | undefined {
		for (const group of this.#groups) if (group.keeps(key)) return group;
		return undefined;
	}

	/**
	 * All kept changes of the settled commits up to this revision are pushed to their groups, which happens in the order of the
	 * commits and in the same turn.
	 */
	reach(revision: number): void {
		this.#revision = revision;
		if (this.#behind.size === 0) return;
		for (const reader of [...this.#behind]) reader.reached(revision);
	}

	/** KV-5. */
	read(prefix: string, after: number = this.#options.revision()): WindowReader {
		const group = this.#serving(prefix);
		return new WindowReader(prefix, after, group, {
			revision: () => this.#revision,
			visible: this.#options.revision,
			waiting: this.#waiting,
			behind: this.#behind,
		});
	}

	/** KV-5. */
	watch(prefix: string, options: { after?: number; signal: AbortSignal }): AsyncIterable<readonly KvChange[]> {
		this.#serving(prefix);
		const { after = this.#options.revision(), signal } = options;
		return { [Symbol.asyncIterator]: () => this.#iterate(prefix, after, signal) };
	}

	/** Ends every watch without an error. */
	close(): void {
		this.#closed = true;
		for (const reader of [...this.#waiting]) reader.wakeUp();
	}

	#serving(prefix: string): ChangeGroup {
		const group = this.#groups.find((each) => each.serves(prefix));
		if (group === undefined) throw new RangeError(`the changes under ${JSON.stringify(prefix)} are not kept`);
		return group;
	}

	#iterate(prefix: string, after: number, signal: AbortSignal): AsyncIterator<readonly KvChange[]> {
		const reader = this.read(prefix, after);
		let ended = false;
		const end = () => {
			ended = true;
			reader.wakeUp();
			reader[Symbol.dispose]();
		};
		return {
			next: async () => {
				try {
					while (!ended && !this.#closed && !signal.aborted) {
						const batch = nextBatch(reader);
						if (batch.length > 0) return { done: false, value: batch };
						await arrival(reader, signal);
					}
				} catch (error) {
					end();
					throw error;
				}
				end();
				return { done: true, value: undefined };
			},
			return: async () => {
				end();
				return { done: true, value: undefined };
			},
		};
	}
}

/** Whole commits, until about a thousand changes are found or there are no more. */
function nextBatch(reader: ChangeReader): KvChange[] {
	const batch: KvChange[] = [];
	while (batch.length < BATCH_CHANGES) {
		const changes = reader.next();
		if (changes === undefined) break;
		for (const change of changes) batch.push(change);
		const last = batch.at(-1)!;
		// What follows in the commit is outside the prefix, so resuming after this change misses nothing.
		if (!last.lastOfCommit) batch[batch.length - 1] = asLast(last);
		reader.advance(last.revision);
	}
	return batch;
}

/** Not by spreading it: its values may be made when they are asked for. */
function asLast({ key, value, oldValue, note, revision, createRevision, oldRevision }: KvChange): KvChange {
	return { key, value, oldValue, note, revision, createRevision, oldRevision, lastOfCommit: true };
}

function arrival(reader: WindowReader, signal: AbortSignal): Promise<void> {
	return new Promise((resolve) => {
		const aborted = () => reader.wakeUp();
		reader.wait(() => {
			signal.removeEventListener("abort", aborted);
			resolve();
		});
		signal.addEventListener("abort", aborted);
	});
}
