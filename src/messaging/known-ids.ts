import { type IdEntry, SenderIds } from "./sender-ids.ts";

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
	restore(sent: SentId): { readonly ids: SenderIds; readonly place: number } {
		const ids = this.toAdd(sent.source);
		const other = ids.find(sent.id);
		const isLate = other >= 0 && ids.sequence(other) >= sent.sequence;
		if (other >= 0 && !isLate) ids.hide(other);
		const place = ids.add(sent, true);
		if (isLate) ids.hide(place);
		return { ids, place };
	}

	clear(): void {
		for (const ids of this.#bySender.values()) ids.hideAll();
		this.#bySender.clear();
		this.#last = undefined;
	}
}
