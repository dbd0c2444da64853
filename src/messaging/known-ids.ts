import { type IdEntry, type IdHandle, SenderIds } from "./sender-ids.ts";

/** An id and who sent it. */
export interface SentId extends IdEntry {
	readonly source: string;
}

/** The ids that are known in one mailbox, by sender. Bounded by whoever adds them. */
export class KnownIds {
	readonly #bySender = new Map<string, SenderIds>();
	readonly #seed: number;
	/** Of the sender that was asked about last: mostly the next one, too. */
	#last: SenderIds | undefined;
	readonly #onEmpty = (ids: SenderIds) => {
		if (this.#bySender.get(ids.source) === ids) this.#bySender.delete(ids.source);
		if (this.#last === ids) this.#last = undefined;
	};

	/** `seed`: what no plugin can foresee. */
	constructor(seed: number) {
		this.#seed = seed;
	}

	get isEmpty(): boolean {
		return this.#bySender.size === 0;
	}

	/** Those of one sender; undefined: it has none. */
	of(source: string): SenderIds | undefined {
		if (this.#last?.source !== source) this.#last = this.#bySender.get(source);
		return this.#last;
	}

	/** The same to add one to them. */
	toAdd(source: string): SenderIds {
		let ids = this.of(source);
		if (ids === undefined) {
			ids = new SenderIds(source, this.#seed, this.#onEmpty);
			this.#bySender.set(source, ids);
			this.#last = ids;
		}
		return ids;
	}

	/** Takes over one that was answered. Where an id is known twice, as the store may have it after a fault, the later message's stands. */
	restore(sent: SentId): { readonly ids: SenderIds; readonly handle: IdHandle } {
		const ids = this.toAdd(sent.source);
		const other = ids.find(sent.id);
		const handle = ids.handleOf(sent.id, sent.sequence);
		if (other >= 0 && ids.sequence(other) >= sent.sequence) return { ids, handle };
		const earlier = other >= 0 ? { ...handle, sequence: ids.sequence(other) } : undefined;
		ids.add(sent, true);
		// Only now, so that the sender is not taken for gone.
		if (earlier !== undefined) ids.delete(earlier);
		return { ids, handle };
	}

	clear(): void {
		this.#bySender.clear();
		this.#last = undefined;
	}
}
