import type { KvChange } from "../state/kv-store.ts";

/** One change as a watch tells it; several of one key where the reader is behind. */
export interface ToldChange {
	/** Whose old value was there before. The same as `last` unless changes were merged. */
	readonly first: KvChange;
	/** What is there since, by whom and why. */
	readonly last: KvChange;
	/** Changes between them that are not told on their own, `first` among them; 0: none. */
	readonly coalesced: number;
}

/** What a change costs on the wire beside its values: revisions, times, names. */
const OVERHEAD_BYTES = 128;

/** The changes of one batch: bounded, in the order of their revisions, and, if asked for, at most one for a key. */
export class ToldChanges {
	readonly #coalesces: boolean;
	readonly #maxChanges: number;
	readonly #maxBytes: number;
	/** By key; where nothing is merged, by number. */
	readonly #changes = new Map<string | number, ToldChange>();
	#bytes = 0;

	constructor(coalesces: boolean, maxChanges: number, maxBytes: number) {
		this.#coalesces = coalesces;
		this.#maxChanges = maxChanges;
		this.#maxBytes = maxBytes;
	}

	get size(): number {
		return this.#changes.size;
	}

	/** Whether there is room for all of these, which have different keys. One change always fits into an empty batch. */
	fits(changes: readonly KvChange[]): boolean {
		let count = this.#changes.size;
		let bytes = this.#bytes;
		for (const change of changes) {
			const known = this.#known(change.key);
			if (known === undefined) count++;
			bytes += sizeOf(known?.first ?? change, change) - (known === undefined ? 0 : sizeOf(known.first, known.last));
		}
		return count <= 1 || (count <= this.#maxChanges && bytes <= this.#maxBytes);
	}

	add(change: KvChange): void {
		const known = this.#known(change.key);
		if (known === undefined) {
			this.#changes.set(this.#coalesces ? change.key : this.#changes.size, {
				first: change,
				last: change,
				coalesced: 0,
			});
			this.#bytes += sizeOf(change, change);
			return;
		}
		// To the end: the order is that of the last changes.
		this.#changes.delete(change.key);
		this.#changes.set(change.key, { first: known.first, last: change, coalesced: known.coalesced + 1 });
		this.#bytes += sizeOf(known.first, change) - sizeOf(known.first, known.last);
	}

	finish(): readonly ToldChange[] {
		return [...this.#changes.values()];
	}

	#known(key: string): ToldChange | undefined {
		return this.#coalesces ? this.#changes.get(key) : undefined;
	}
}

function sizeOf(first: KvChange, last: KvChange): number {
	const values = (first.oldValue?.byteLength ?? 0) + (last.value?.byteLength ?? 0) + (last.note?.byteLength ?? 0);
	// The key is in the change and in both entries.
	return values + last.key.length + OVERHEAD_BYTES;
}
