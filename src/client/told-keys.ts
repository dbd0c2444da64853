/**
 * What a reader was told to be there: each key with its revision. With it a new snapshot can be told as the difference. Bounded:
 * past that many keys it forgets all, and no difference can be told any more.
 */
export class ToldKeys {
	readonly #max: number;
	readonly #revisions = new Map<string, bigint>();
	/** Keys that the snapshot under way has shown. */
	#shown: Set<string> | undefined;
	#overflowed = false;

	constructor(max: number) {
		this.#max = max;
	}

	/** Whether there were more keys than are kept. */
	get overflowed(): boolean {
		return this.#overflowed;
	}

	get size(): number {
		return this.#revisions.size;
	}

	/** The revision that the reader was told, if the key was told to be there. */
	get(key: string): bigint | undefined {
		return this.#revisions.get(key);
	}

	/** A new snapshot begins. */
	beginComparing(): void {
		this.#shown = new Set();
	}

	/** The snapshot under way has shown the key, or a change made it after that. */
	show(key: string): void {
		this.#shown?.add(key);
	}

	/** The reader is told that the key is there. */
	tell(key: string, revision: bigint): void {
		if (this.#overflowed) return;
		this.#revisions.set(key, revision);
		if (this.#revisions.size <= this.#max) return;
		this.#overflowed = true;
		this.#revisions.clear();
	}

	/** The reader is told that the key is gone. */
	forget(key: string): void {
		this.#revisions.delete(key);
		this.#shown?.delete(key);
	}

	/** Ends the comparison: the keys that the snapshot did not show. They are forgotten. */
	endComparing(): readonly string[] {
		const shown = this.#shown;
		if (shown === undefined) return [];
		this.#shown = undefined;
		const gone = [...this.#revisions.keys()].filter((key) => !shown.has(key));
		for (const key of gone) this.#revisions.delete(key);
		return gone;
	}
}
