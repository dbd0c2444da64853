import type { AcceptanceListener, MessageDisposition } from "./accepted-message.ts";
import type { SettledEntry, SettledIds } from "./settled-ids.ts";

/** An id that a sender has used in one mailbox. One object an id, because many are remembered. */
export class KnownId implements SettledEntry {
	readonly source: string;
	readonly id: string;
	/** Tells a repeat from another message of the same id. */
	readonly digest: string;
	readonly sequence: number;
	/** Milliseconds since the Unix epoch. */
	readonly acceptTime: number;
	/** What the sender was told became of the message; undefined: it still waits for that. */
	outcome: MessageDisposition | undefined;
	/** Where it is stored, once its message is settled. */
	settled: SettledIds | undefined = undefined;
	/** Another message has the id since. */
	isReplaced = false;
	/** Who sent it again before there was an answer. */
	#waiting: AcceptanceListener[] | undefined = undefined;
	readonly #owner: KnownIds;

	constructor(
		owner: KnownIds,
		fields: Pick<KnownId, "source" | "id" | "digest" | "sequence" | "acceptTime">,
		outcome: MessageDisposition | undefined,
	) {
		this.#owner = owner;
		this.source = fields.source;
		this.id = fields.id;
		this.digest = fields.digest;
		this.sequence = fields.sequence;
		this.acceptTime = fields.acceptTime;
		this.outcome = outcome;
	}

	/** Tells the first answer to this id, as soon as there is one. */
	repeat(told: AcceptanceListener): void {
		const { id, outcome } = this;
		if (outcome !== undefined) told({ id, disposition: outcome, duplicate: true });
		else if (this.#waiting === undefined) this.#waiting = [told];
		else this.#waiting.push(told);
	}

	/** It is known no longer. Gives the key of a record that nothing is left of. */
	forget(): string | undefined {
		this.#owner.delete(this);
		return this.settled?.forget() ? this.settled.key : undefined;
	}

	/** The sender is told: what became of the message, or (undefined) why it was not accepted. */
	answer(outcome: MessageDisposition | undefined, error?: unknown): void {
		this.outcome = outcome;
		const waiting = this.#waiting;
		if (waiting === undefined) return;
		this.#waiting = undefined;
		for (const told of waiting) {
			told(outcome === undefined ? undefined : { id: this.id, disposition: outcome, duplicate: true }, error);
		}
	}
}

/** The ids that are known in one mailbox, by sender. Bounded by whoever adds them. */
export class KnownIds {
	readonly #bySender = new Map<string, Map<string, KnownId>>();

	get isEmpty(): boolean {
		return this.#bySender.size === 0;
	}

	get(source: string, id: string): KnownId | undefined {
		return this.#bySender.get(source)?.get(id);
	}

	/** The id must not be known. */
	add(known: KnownId): void {
		const { source, id } = known;
		const ids = this.#bySender.get(source);
		if (ids === undefined) this.#bySender.set(source, new Map([[id, known]]));
		else ids.set(id, known);
	}

	/** Where an id is known twice, as the store may have it after a fault, the later message's stands. */
	restore(known: KnownId): void {
		const other = this.get(known.source, known.id);
		if (other !== undefined && other.sequence >= known.sequence) {
			known.isReplaced = true;
			return;
		}
		if (other !== undefined) other.isReplaced = true;
		this.add(known);
	}

	/** An id that is used anew since then stays. */
	delete({ source, id, isReplaced }: KnownId): void {
		if (isReplaced) return;
		const ids = this.#bySender.get(source);
		if (ids === undefined) return;
		ids.delete(id);
		if (ids.size === 0) this.#bySender.delete(source);
	}

	clear(): void {
		this.#bySender.clear();
	}
}
