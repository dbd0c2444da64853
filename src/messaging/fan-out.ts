import type { Clock, IdSource } from "../clock/clock.ts";
import type { Reason } from "../hub-error.ts";
import type { AcceptedMessage } from "./accepted-message.ts";
import type { MessageDraft } from "./message-draft.ts";
import type { Router } from "./router.ts";
import { SentIds } from "./sent-ids.ts";
import { type SharedDraft, type SharedOrigin, sharedDraft } from "./shared-draft.ts";

/** What became of a message for many. */
export interface FanOutOutcome {
	readonly id: string;
	readonly delivered: number;
	readonly queued: number;
	/** Recipients that do not get it, by reason. */
	readonly skipped: ReadonlyMap<Reason, number>;
	readonly duplicate: boolean;
}

/** A message for many, and for whom. */
export interface FanOutMessage {
	readonly draft: MessageDraft;
	readonly source: string;
	readonly origin: SharedOrigin;
	readonly durability: "durable" | "transient";
	/** The source among them is left out. Read twice for a durable message. */
	readonly recipients: Iterable<string>;
	/** Tells the recipients of a transient message apart from others under the same id, where its content does not. */
	readonly selection?: string;
	/** Why a recipient may not be reached; undefined: it may. */
	readonly refusal: (recipient: string) => { readonly reason: Reason } | undefined;
	/** The reason that whatever was thrown is told as. */
	readonly reasonOf: (error: unknown) => Reason;
}

/** Recipients between two turns of others; as many copies of a message are being stored at once. */
const CHUNK = 256;

/**
 * Sends one message to many mailboxes.
 *
 * - FO-1 What keeps it from one recipient keeps it from no other.
 * - FO-2 All copies have one id. Mailboxes know the ids of durable messages, so that a repeat reaches those that do not have
 *   it yet. A repeat of a transient message gives the first answer, for two minutes (or 50,000 ids).
 * - FO-3 Messages of one source to the same recipients keep their order where each is sent after the answer to the one before.
 */
export class FanOut {
	readonly #router: Router;
	readonly #ids: IdSource;
	readonly #sent: SentIds<Promise<FanOutOutcome>>;

	constructor(options: { readonly router: Router; readonly clock: Clock; readonly ids: IdSource }) {
		this.#router = options.router;
		this.#ids = options.ids;
		this.#sent = new SentIds(options.clock);
	}

	/** Rejects with ID_REUSED before anything is sent. */
	async send(message: FanOutMessage): Promise<FanOutOutcome> {
		const { source, durability, selection = "" } = message;
		const draft = this.share(message.draft, message.origin);
		const isNamed = draft.digest !== "";
		if (durability === "durable") {
			if (isNamed) this.#checkIds(draft, message);
			return await this.#send(draft, message);
		}
		const digest = `${selection}\n${draft.digest}`;
		const first = isNamed ? this.#sent.find(source, draft.id, digest) : undefined;
		if (first !== undefined) {
			this.#router.counters.duplicates++;
			return { ...(await first), duplicate: true };
		}
		const outcome = this.#send(draft, message);
		if (isNamed) this.#sent.remember(source, draft.id, digest, outcome);
		return await outcome;
	}

	/** The draft under the one id that all its recipients see. */
	share(draft: MessageDraft, origin: SharedOrigin): SharedDraft {
		return sharedDraft(draft, origin, draft.id === "" ? this.#ids.next() : draft.id);
	}

	#checkIds(draft: SharedDraft, { source, recipients }: FanOutMessage): void {
		const { store } = this.#router;
		for (const recipient of recipients) store.find(recipient, source, draft.id, draft.digest);
	}

	async #send(draft: SharedDraft, message: FanOutMessage): Promise<FanOutOutcome> {
		const { source, durability, recipients, refusal, reasonOf } = message;
		const { counters } = this.#router;
		const tally = new Tally();
		const skip = (reason: Reason) => {
			tally.skip(reason);
			counters.skipped++;
		};
		let storing: Promise<void>[] = [];
		let inChunk = 0;
		for (const recipient of recipients) {
			if (recipient === source) continue;
			const refused = refusal(recipient);
			if (refused !== undefined) skip(refused.reason);
			else if (durability === "durable") {
				const sent = this.#router.sendDurable(draft, source, recipient);
				storing.push(
					sent.then(
						(accepted) => tally.accept(accepted),
						(error: unknown) => skip(reasonOf(error)),
					),
				);
			} else {
				try {
					tally.accept(this.#router.deliver(draft, source, recipient));
				} catch (error) {
					skip(reasonOf(error));
				}
			}
			if (++inChunk < CHUNK) continue;
			inChunk = 0;
			await Promise.all(storing);
			storing = [];
			await new Promise(setImmediate);
		}
		await Promise.all(storing);
		if (message.origin.kind === "broadcast") counters.broadcast++;
		else counters.published++;
		return { id: draft.id, ...tally };
	}
}

class Tally {
	delivered = 0;
	queued = 0;
	readonly skipped = new Map<Reason, number>();
	duplicate = false;

	accept({ disposition, duplicate }: AcceptedMessage): void {
		if (disposition === "delivered") this.delivered++;
		else this.queued++;
		if (duplicate) this.duplicate = true;
	}

	skip(reason: Reason): void {
		this.skipped.set(reason, (this.skipped.get(reason) ?? 0) + 1);
	}
}
