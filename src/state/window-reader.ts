import type { ChangeGroup } from "./change-group.ts";
import type { ChangeLane, CommitPart, LaneReader } from "./change-lane.ts";
import { type ChangeReader, CompactedError, type KvChange } from "./kv-store.ts";

/** The window that a reader reads. */
export interface ReadWindow {
	/** All changes up to this revision are in the window, or were. */
	readonly revision: () => number;
	/** What reads of the store show, which may be a little ahead. */
	readonly visible: () => number;
	/** Readers that wait. */
	readonly waiting: Set<WindowReader>;
	/** Those that wait for the window to come to a revision. */
	readonly behind: Set<WindowReader>;
}

const NONE: readonly KvChange[] = Object.freeze([]);

/** KV-5: a place among the kept changes under a prefix. */
export class WindowReader implements ChangeReader, LaneReader {
	readonly #prefix: string;
	readonly #group: ChangeGroup;
	readonly #lane: ChangeLane;
	readonly #window: ReadWindow;
	/** Whether the prefix is that of all of the lane. */
	readonly #readsAll: boolean;
	#revision: number;
	#wake: (() => void) | undefined;
	/** The revision that the window is waited for to come to. */
	#target = 0;
	#disposed = false;

	constructor(prefix: string, after: number, group: ChangeGroup, window: ReadWindow) {
		this.#prefix = prefix;
		this.#revision = after;
		this.#group = group;
		this.#window = window;
		this.#lane = group.enter(prefix);
		this.#readsAll = group.isLane(prefix);
	}

	get revision(): number {
		return this.#revision;
	}

	get oldest(): number {
		return this.#lane.trimmed;
	}

	get unread(): { readonly changes: number; readonly bytes: number } {
		return this.#lane.from(this.#lane.after(this.#revision));
	}

	next(): readonly KvChange[] | undefined {
		this.#group.prune();
		const { trimmed } = this.#lane;
		if (this.#revision < trimmed || this.#revision > this.#window.visible()) throw new CompactedError(trimmed);
		for (let number = this.#lane.after(this.#revision); ; number++) {
			const part = this.#lane.at(number);
			if (part === undefined) break;
			const changes = this.#unreadOf(part);
			if (changes.length > 0) {
				this.advance(changes[0]!.revision - 1);
				return changes;
			}
			this.#revision = part.packed.revision;
		}
		this.advance(this.#window.revision());
		return undefined;
	}

	advance(revision: number): void {
		if (revision > this.#revision) this.#revision = revision;
	}

	wait(wake: () => void, revision = 0): void {
		if (this.#disposed) return;
		this.#wake = wake;
		this.#lane.waiting.add(this);
		this.#window.waiting.add(this);
		if (revision <= this.#window.revision()) {
			if (revision > 0) this.wakeUp();
			return;
		}
		this.#target = revision;
		this.#window.behind.add(this);
	}

	arrived(part: CommitPart): void {
		if (this.#isTouched(part)) this.wakeUp();
		// It has read everything before, so that it misses nothing here either.
		else this.advance(part.packed.revision);
	}

	/** The window has come to this revision. */
	reached(revision: number): void {
		if (revision >= this.#target) this.wakeUp();
	}

	/** Ends a wait, as if there were something. */
	wakeUp(): void {
		const wake = this.#wake;
		this.#wake = undefined;
		this.#lane.waiting.delete(this);
		this.#window.waiting.delete(this);
		this.#window.behind.delete(this);
		wake?.();
	}

	[Symbol.dispose](): void {
		if (this.#disposed) return;
		this.#disposed = true;
		this.#wake = undefined;
		this.wakeUp();
		this.#group.leave(this.#lane);
	}

	#unreadOf(part: CommitPart): readonly KvChange[] {
		if (!this.#isTouched(part)) return NONE;
		const changes = this.#lane.changesOf(part);
		if (this.#readsAll && changes[0]!.revision > this.#revision) return changes;
		return changes.filter((change) => change.revision > this.#revision && change.key.startsWith(this.#prefix));
	}

	/** Whether the part has changes under the prefix. */
	#isTouched({ packed, places }: CommitPart): boolean {
		if (this.#readsAll) return true;
		if (places === undefined) return packed.keys.some((key) => key.startsWith(this.#prefix));
		return places.some((place) => packed.keys[place]!.startsWith(this.#prefix));
	}
}
