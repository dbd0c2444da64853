import type { KvChange } from "./kv-store.ts";
import type { PackedChanges } from "./packed-changes.ts";

/** What one commit changed in a lane; at least one change. */
export interface CommitPart {
	readonly packed: PackedChanges;
	/** The numbers of the changes, in order; undefined: all. */
	readonly places: readonly number[] | undefined;
	readonly bytes: number;
}

interface Part extends CommitPart {
	/** What the lane had taken before this part, for telling how much lies behind it. */
	readonly changesBefore: number;
	readonly bytesBefore: number;
	/** Undefined: nobody has read them lately. */
	made: readonly KvChange[] | undefined;
}

/** Who reads a lane, as the lane sees it. */
export interface LaneReader {
	/** Told at once of every part that comes while the reader waits. */
	arrived(part: CommitPart): void;
}

/** Parts whose changes a lane remembers as they were read: its readers read the same ones one after the other. */
const MADE_PARTS = 8;

/** The kept changes of one prefix: parts of commits, numbered from 0 as they come, of which the oldest go first. */
export class ChangeLane {
	/** What its changes' keys begin with; "" where it has all of its group. */
	readonly key: string;
	/** Open readers: a lane that has any is not forgotten, so that they know whether they missed something. */
	readers = 0;
	/** Readers that have read everything. */
	readonly waiting = new Set<LaneReader>();
	/** The newest revision of this lane whose changes are gone; every other one that is newer is here. */
	#trimmed: number;
	/** Undefined where a part is gone. */
	#parts: (Part | undefined)[] = [];
	#head = 0;
	/** The number of `#parts[0]`. */
	#base = 0;
	#changes = 0;
	#bytes = 0;
	/** Those that remember their changes, oldest first. */
	readonly #made: Part[] = [];

	constructor(key: string, trimmed: number) {
		this.key = key;
		this.#trimmed = trimmed;
	}

	get trimmed(): number {
		return this.#trimmed;
	}

	get isEmpty(): boolean {
		return this.#head === this.#parts.length;
	}

	/** Parts come in the order of their revisions. */
	push(packed: PackedChanges, places: readonly number[] | undefined, bytes: number): void {
		const part = { packed, places, bytes, changesBefore: this.#changes, bytesBefore: this.#bytes, made: undefined };
		this.#parts.push(part);
		this.#changes += places?.length ?? packed.count;
		this.#bytes += bytes;
		if (this.waiting.size === 0) return;
		for (const reader of [...this.waiting]) reader.arrived(part);
	}

	/** Forgets the oldest part. */
	trim(): void {
		const oldest = this.#parts[this.#head]!;
		this.#trimmed = oldest.packed.revision;
		if (oldest.made !== undefined) this.#made.splice(this.#made.indexOf(oldest), 1);
		// At once: a part may hold megabytes.
		this.#parts[this.#head++] = undefined;
		if (this.#head > 256 && this.#head * 2 > this.#parts.length) {
			this.#parts = this.#parts.slice(this.#head);
			this.#base += this.#head;
			this.#head = 0;
		}
	}

	/** The part with this number; undefined where it is gone or not there yet. */
	at(number: number): CommitPart | undefined {
		const index = number - this.#base;
		return index < this.#head ? undefined : this.#parts[index];
	}

	/** The changes of a part that is here; mostly the same objects for all who read it at about the same time. */
	changesOf(part: CommitPart): readonly KvChange[] {
		const mine = part as Part;
		if (mine.made !== undefined) return mine.made;
		const { packed, places } = mine;
		const count = places?.length ?? packed.count;
		const changes: KvChange[] = [];
		for (let at = 0; at < count; at++) changes.push(packed.changeAt(places === undefined ? at : places[at]!));
		mine.made = changes;
		if (this.#made.push(mine) > MADE_PARTS) this.#made.shift()!.made = undefined;
		return changes;
	}

	/** A reader leaves. */
	leave(): void {
		if (--this.readers > 0) return;
		for (const part of this.#made) part.made = undefined;
		this.#made.length = 0;
	}

	/** The number of the first part that has or may get changes after `revision`, which is not before `trimmed`. */
	after(revision: number): number {
		let low = this.#head;
		let high = this.#parts.length;
		while (low < high) {
			const middle = (low + high) >>> 1;
			if (this.#parts[middle]!.packed.revision <= revision) low = middle + 1;
			else high = middle;
		}
		return this.#base + low;
	}

	/** How much is in the part with this number and behind it. */
	from(number: number): { readonly changes: number; readonly bytes: number } {
		const part = this.#parts[Math.max(number - this.#base, this.#head)];
		if (part === undefined) return { changes: 0, bytes: 0 };
		return { changes: this.#changes - part.changesBefore, bytes: this.#bytes - part.bytesBefore };
	}
}
