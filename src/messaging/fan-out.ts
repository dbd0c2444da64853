import type { Clock, IdSource } from "../clock/clock.ts";
import type { Reason } from "../hub-error.ts";
import { type AcceptedMessage, asPromise } from "./accepted-message.ts";
import type { MessageDraft } from "./message-draft.ts";
import { type MiddlewareChain, passedOn } from "./middleware-chain.ts";
import { makeMirrors } from "./mirror-copies.ts";
import { type Journey, NO_MIRRORS } from "./route-table.ts";
import type { Router } from "./router.ts";
import type { Routes } from "./routes.ts";
import { SentIds } from "./sent-ids.ts";
import { type SharedDraft, type SharedOrigin, sharedDraft } from "./shared-draft.ts";
import { SharedJourneys } from "./shared-journeys.ts";

/** What became of a message for many. */
export interface FanOutOutcome {
	readonly id: string;
	readonly delivered: number;
	readonly queued: number;
	/** Recipients that do not get it, by reason. */
	readonly skipped: ReadonlyMap<Reason, number>;
	/** Recipients that routes lead to a plugin which gets the message already. */
	readonly merged: number;
	readonly duplicate: boolean;
}

/** The copy of one recipient, and where it goes. */
export interface FanOutCopy extends Journey {
	/** Whether a route leads it to another plugin than the recipient that was meant. */
	readonly redirected: boolean;
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
	/** Why a copy may not go where it goes; undefined: it may. */
	readonly refusal: (copy: FanOutCopy) => { readonly reason: Reason } | undefined;
	/** Whether a plugin may have the copy that a mirror route asks for. */
	readonly mayMirror: (recipient: string) => boolean;
	/** Told what was thrown where a copy that may go was kept back; the reason that it counts as. */
	readonly failed: (recipient: string, error: unknown) => Reason;
}

export interface FanOutOptions {
	readonly router: Router;
	readonly routes: Pick<Routes, "table" | "lead">;
	readonly middleware: MiddlewareChain;
	readonly clock: Clock;
	readonly ids: IdSource;
}

/** Recipients between two turns of others; no more copies of a message are being looked at or stored at once. */
const CHUNK = 256;
/** Bytes of the copies that are being looked at or stored at once; a single one may go over. */
const CHUNK_BYTES = 4 * 1024 * 1024;

/**
 * Sends one message to many mailboxes.
 *
 * - FO-1 What keeps it from one recipient keeps it from no other.
 * - FO-2 All copies have one id. Mailboxes know the ids of durable messages, so that a repeat reaches those that do not have
 *   it yet. A repeat of a transient message gives the first answer, as long as `SentIds` knows it.
 * - FO-3 Messages of one source to the same recipients keep their order where each is sent after the answer to the one before.
 * - FO-4 Each copy goes the way of a message to its recipient: routes, the guard, middleware. A plugin that several recipients
 *   lead to gets one copy; the others are counted as merged.
 * - FO-5 Durable messages of one source under one id go out one after the other: mailboxes know the id of the one before when
 *   they are asked about the next, so that never some recipients get the one and some the other content.
 *
 * What was begun goes on to its end, whether or not its sender still waits.
 */
export class FanOut {
	readonly #options: FanOutOptions;
	readonly #sent: SentIds<Promise<FanOutOutcome>>;
	/** FO-5. The end of the last durable message of each id that is going out, by source and id. */
	readonly #going = new Map<string, Promise<void>>();

	constructor(options: FanOutOptions) {
		this.#options = options;
		this.#sent = new SentIds(options.clock);
	}

	/** Rejects with ID_REUSED before anything is sent. */
	async send(message: FanOutMessage): Promise<FanOutOutcome> {
		const { source, durability, selection = "" } = message;
		const draft = this.share(message.draft, message.origin);
		if (draft.digest === "") return await this.#send(draft, message);
		// Mailboxes know the ids of durable messages.
		if (durability === "durable") return await this.#inTurn(`${source}\n${draft.id}`, () => this.#send(draft, message));
		const digest = `${selection}\n${draft.digest}`;
		const first = this.#sent.find(source, draft.id, digest);
		if (first !== undefined) {
			this.#options.router.counters.duplicates++;
			return { ...(await first), duplicate: true };
		}
		const outcome = this.#send(draft, message);
		this.#sent.remember(source, draft.id, digest, outcome);
		return await outcome;
	}

	/** The draft under the one id that all its recipients see. */
	share(draft: MessageDraft, origin: SharedOrigin): SharedDraft {
		return sharedDraft(draft, origin, draft.id === "" ? this.#options.ids.next() : draft.id);
	}

	/** FO-5. At once where none of the same key is going out. */
	#inTurn(key: string, send: () => Promise<FanOutOutcome>): Promise<FanOutOutcome> {
		const outcome = this.#going.get(key)?.then(send) ?? send();
		const done = () => {
			if (this.#going.get(key) === end) this.#going.delete(key);
		};
		const end: Promise<void> = outcome.then(done, done);
		this.#going.set(key, end);
		return outcome;
	}

	async #send(draft: SharedDraft, message: FanOutMessage): Promise<FanOutOutcome> {
		const { source, durability, origin, recipients } = message;
		const { router, routes } = this.#options;
		const { counters } = router;
		const tally = new Tally();
		const resolve = ({ name }: { readonly name: string }) => name;
		const journeys = new SharedJourneys({ routes, resolve, draft, source, mayReachSender: false });
		const routed = routes.table.isEmpty ? undefined : await led(message, journeys, tally);
		if (durability === "durable" && draft.digest !== "") {
			for (const recipient of routed?.map((copy) => copy.recipient) ?? recipients) {
				const isLeftOut = routed === undefined && recipient === source;
				if (!isLeftOut) router.store.requireUnused(recipient, source, draft.id, draft.digest);
			}
		}
		let going: Promise<void>[] = [];
		let inChunk = 0;
		const most = copiesAtOnce(draft);
		for (const copy of routed ?? direct(message, tally)) {
			const sent = copy && this.#forward(draft, copy, message, journeys, tally);
			if (sent !== undefined) going.push(sent);
			if (++inChunk < most) continue;
			inChunk = 0;
			await Promise.all(going);
			going = [];
			await nextTurn();
		}
		await Promise.all(going);
		const { delivered, queued, skipped, duplicate } = tally;
		const { merged } = journeys;
		for (const count of skipped.values()) counters.skipped += count;
		counters.merged += merged;
		if (origin.kind === "broadcast") counters.broadcast++;
		else counters.published++;
		return { id: draft.id, delivered, queued, skipped, merged, duplicate };
	}

	/** Undefined: it is known already what became of the copy. */
	#forward(
		draft: SharedDraft,
		{ recipient }: FanOutCopy,
		{ source, durability, failed, mayMirror }: FanOutMessage,
		journeys: SharedJourneys,
		tally: Tally,
	): Promise<void> | undefined {
		const { router, middleware } = this.#options;
		const accept = (accepted: AcceptedMessage, passed: MessageDraft) => {
			tally.accept(accepted);
			if (accepted.duplicate) return;
			makeMirrors(router, { draft: passed, id: draft.id, source }, journeys.takeMirrors(recipient), mayMirror);
		};
		const pass = (passed: MessageDraft): Promise<void> | undefined => {
			if (durability === "durable") {
				return asPromise((told) => router.sendDurable(passed, source, recipient, told)).then((accepted) =>
					accept(accepted, passed),
				);
			}
			accept(router.deliver(passed, source, recipient), passed);
			return undefined;
		};
		const skip = (error: unknown) => tally.skip(failed(recipient, error));
		try {
			const inspection = middleware.inspect({ draft, source, recipient, deadline: undefined });
			// What is done in the first reaction keeps the sender's order.
			const sent = inspection === undefined ? pass(draft) : inspection.then((result) => pass(passedOn(result)));
			return sent?.catch(skip);
		} catch (error) {
			skip(error);
			return undefined;
		}
	}
}

/** How many copies of a message may be looked at or stored at once. At least one. */
export function copiesAtOnce({ wire }: MessageDraft): number {
	return Math.max(1, Math.min(CHUNK, Math.floor(CHUNK_BYTES / wire.byteLength)));
}

/** The copies where there are no routes; undefined: it was skipped. */
function* direct({ recipients, source, refusal }: FanOutMessage, tally: Tally): Generator<FanOutCopy | undefined> {
	for (const recipient of recipients) {
		if (recipient === source) continue;
		const copy = { recipient, mirrors: NO_MIRRORS, redirected: false };
		const refused = refusal(copy);
		if (refused !== undefined) tally.skip(refused.reason);
		yield refused === undefined ? copy : undefined;
	}
}

/** The copies where routes decide; those that lead nowhere are skipped. All are judged before the first goes. */
async function led(
	{ recipients, source, refusal, failed }: FanOutMessage,
	journeys: SharedJourneys,
	tally: Tally,
): Promise<readonly FanOutCopy[]> {
	const copies: FanOutCopy[] = [];
	const judge = (copy: FanOutCopy) => {
		const refused = refusal(copy);
		if (refused === undefined) {
			copies.push(copy);
			return;
		}
		tally.skip(refused.reason);
		journeys.refuse(copy.recipient);
	};
	let inChunk = 0;
	for (const name of recipients) {
		if (name === source) continue;
		try {
			const journey = journeys.lead({ kind: "plugin", name });
			if (journey !== undefined) judge({ ...journey, redirected: journey.recipient !== name });
		} catch (error) {
			tally.skip(failed(name, error));
		}
		if (++inChunk < CHUNK) continue;
		inChunk = 0;
		await nextTurn();
	}
	return copies;
}

function nextTurn(): Promise<void> {
	return new Promise((resolve) => setImmediate(resolve));
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
