import type { AcceptedMessage, MessageDisposition } from "./accepted-message.ts";
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
	/** What the sender was told became of the message, or the answer that it waits for. */
	outcome: MessageDisposition | Promise<AcceptedMessage>;
	/** Where it is stored, once its message is settled. */
	settled: SettledIds | undefined = undefined;
	readonly #owner: KnownIds;

	constructor(
		owner: KnownIds,
		fields: Pick<KnownId, "source" | "id" | "digest" | "sequence" | "acceptTime" | "outcome">,
	) {
		this.#owner = owner;
		this.source = fields.source;
		this.id = fields.id;
		this.digest = fields.digest;
		this.sequence = fields.sequence;
		this.acceptTime = fields.acceptTime;
		this.outcome = fields.outcome;
	}

	/** The first answer to this id. */
	get answer(): AcceptedMessage | Promise<AcceptedMessage> {
		const { id, outcome } = this;
		return typeof outcome === "string" ? { id, disposition: outcome, duplicate: false } : outcome;
	}

	/** It is known no longer. Gives the key of a record that nothing is left of. */
	forget(): string | undefined {
		this.#owner.delete(this);
		return this.settled?.forget() ? this.settled.key : undefined;
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

	/** Where an id is known twice, as the store may have it after a fault, the later message's stands. */
	add(known: KnownId): void {
		const { source, id } = known;
		const ids = this.#bySender.get(source);
		if (ids === undefined) this.#bySender.set(source, new Map([[id, known]]));
		else if ((ids.get(id)?.sequence ?? 0) < known.sequence) ids.set(id, known);
	}

	/** An id that is used anew since then stays. */
	delete(known: KnownId): void {
		const { source, id } = known;
		const ids = this.#bySender.get(source);
		if (ids?.get(id) !== known) return;
		ids.delete(id);
		if (ids.size === 0) this.#bySender.delete(source);
	}

	clear(): void {
		this.#bySender.clear();
	}
}
