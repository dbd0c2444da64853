import { keys } from "../state/key-layout.ts";
import type { AcceptedMessage, MessageDisposition } from "./accepted-message.ts";
import type { IdMark } from "./id-marks.ts";

/** An id that a sender has used in one mailbox. One object an id, because many are remembered. */
export class KnownId implements IdMark {
	readonly source: string;
	readonly id: string;
	/** Tells a repeat from another message of the same id. */
	readonly digest: string;
	readonly sequence: number;
	readonly until: number;
	/** What the sender was told became of the message, or the answer that it waits for. */
	outcome: MessageDisposition | Promise<AcceptedMessage>;
	readonly #owner: KnownIds;

	constructor(owner: KnownIds, fields: Pick<KnownId, "source" | "id" | "digest" | "sequence" | "until" | "outcome">) {
		this.#owner = owner;
		this.source = fields.source;
		this.id = fields.id;
		this.digest = fields.digest;
		this.sequence = fields.sequence;
		this.until = fields.until;
		this.outcome = fields.outcome;
	}

	/** The first answer to this id. */
	get answer(): AcceptedMessage | Promise<AcceptedMessage> {
		const { id, outcome } = this;
		return typeof outcome === "string" ? { id, disposition: outcome, duplicate: false } : outcome;
	}

	get key(): string {
		return keys.mailboxMessage(this.#owner.pluginId, this.sequence);
	}

	forget(): void {
		this.#owner.forget(this);
	}
}

/** The ids that are known in one mailbox, by sender. Bounded by whoever adds them. */
export class KnownIds {
	readonly pluginId: string;
	readonly #bySender = new Map<string, Map<string, KnownId>>();

	constructor(pluginId: string) {
		this.pluginId = pluginId;
	}

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
	forget(known: KnownId): void {
		const { source, id } = known;
		const ids = this.#bySender.get(source);
		if (ids?.get(id) !== known) return;
		ids.delete(id);
		if (ids.size === 0) this.#bySender.delete(source);
	}

	*all(): Generator<KnownId, void, undefined> {
		for (const ids of this.#bySender.values()) yield* ids.values();
	}

	clear(): void {
		this.#bySender.clear();
	}
}
