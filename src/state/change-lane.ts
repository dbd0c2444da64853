import type { KvChange } from "./kv-store.ts";

/** What one commit changed in a lane. */
export interface CommitPart {
	/** The commit's last revision: every change up to it is in this part or before it. */
	readonly revision: number;
	/** In order; at least one. */
	readonly changes: readonly KvChange[];
	/** Of keys, values, old values and notes. */
	readonly bytes: number;
}

interface Part extends CommitPart {
	/** What the lane had taken before this part, for telling how much lies behind it. */
	readonly changesBefore: number;
	readonly bytesBefore: number;
}

/** Who reads a lane, as the lane sees it. */
export interface LaneReader {
	/** Told at once of every part that comes while the reader waits. */
	arrived(part: CommitPart): void;
}

/** The kept changes of one prefix: parts of commits, numbered from 0 as they come, of which the oldest go first. */
export class ChangeLane {
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

	constructor(trimmed: number) {
		this.#trimmed = trimmed;
	}

	get trimmed(): number {
		return this.#trimmed;
	}

	get isEmpty(): boolean {
		return this.#head === this.#parts.length;
	}

	/** Parts come in the order of their revisions. */
	push(part: CommitPart): void {
		this.#parts.push({ ...part, changesBefore: this.#changes, bytesBefore: this.#bytes });
		this.#changes += part.changes.length;
		this.#bytes += part.bytes;
		for (const reader of [...this.waiting]) reader.arrived(part);
	}

	/** Forgets the oldest part. */
	trim(): void {
		this.#trimmed = this.#parts[this.#head]!.revision;
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

	/** The number of the first part that has or may get changes after `revision`, which is not before `trimmed`. */
	after(revision: number): number {
		let low = this.#head;
		let high = this.#parts.length;
		while (low < high) {
			const middle = (low + high) >>> 1;
			if (this.#parts[middle]!.revision <= revision) low = middle + 1;
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
