import { HubError } from "../hub-error.ts";
import type { Deadline, DeadlineQueue } from "../streams/deadline-queue.ts";

/** How a request ended. */
export type ReplyOutcome =
	| {
			readonly kind: "reply";
			/** `ReplyContent` in wire form; a view of a larger frame, to be copied by whoever keeps it. */
			readonly content: Uint8Array;
			/** The plugin that answered. */
			readonly source: string;
	  }
	| { readonly kind: "failed"; readonly error: HubError };

/** Why a requester stopped waiting before an outcome came; what its handler is told. */
export type WithdrawalReason = "CANCELLED" | "DEADLINE_EXCEEDED";

/** A request that was taken. */
export interface SentRequest {
	/** Whether its sender has been told how it ended, or no longer waits. */
	readonly settled: boolean;
	/** Resolves once no middleware looks at it any more; undefined: none does. */
	readonly inspected?: Promise<void>;
	/** Its sender no longer waits, and is told nothing more. */
	cancel(reason?: WithdrawalReason): void;
}

/** Requests that one plugin may have without an answer. */
const MAX_PENDING_PER_CALLER = 10_000;

/**
 * One request whose sender waits. The first of `answer`, `fail`, `cancel` and the deadline settles it; the others then
 * do nothing. `onOutcome` is called once, except after `cancel`.
 */
export class PendingReply implements Deadline {
	readonly at: number;
	slot = -1;
	/** Called when the requester no longer waits, so that the message and its handler can be told. */
	onWithdrawn: (reason: WithdrawalReason) => void = () => {};
	readonly #owner: PendingReplies;
	readonly #caller: string;
	readonly #onOutcome: (outcome: ReplyOutcome) => void;
	#settled = false;

	/** Made by `PendingReplies.open`. */
	constructor(owner: PendingReplies, caller: string, at: number, onOutcome: (outcome: ReplyOutcome) => void) {
		this.#owner = owner;
		this.#caller = caller;
		this.at = at;
		this.#onOutcome = onOutcome;
	}

	get settled(): boolean {
		return this.#settled;
	}

	/** False: it was settled before. */
	answer(content: Uint8Array, source: string): boolean {
		if (!this.#settle()) return false;
		this.#onOutcome({ kind: "reply", content, source });
		return true;
	}

	/** False: it was settled before. */
	fail(error: HubError): boolean {
		if (!this.#settle()) return false;
		this.#onOutcome({ kind: "failed", error });
		return true;
	}

	/** The requester no longer waits; it is told nothing. */
	cancel(reason: WithdrawalReason = "CANCELLED"): void {
		if (this.#settle()) this.onWithdrawn(reason);
	}

	/** The deadline. */
	run(): void {
		if (!this.#settle()) return;
		this.onWithdrawn("DEADLINE_EXCEEDED");
		this.#onOutcome({ kind: "failed", error: new HubError("DEADLINE_EXCEEDED", "no reply came in time") });
	}

	#settle(): boolean {
		if (this.#settled) return false;
		this.#settled = true;
		this.#owner.close(this, this.#caller);
		return true;
	}
}

/** The requests that wait for a reply, bounded per caller, each with its deadline. */
export class PendingReplies {
	readonly #deadlines: DeadlineQueue;
	readonly #maxPerCaller: number;
	readonly #perCaller = new Map<string, number>();
	readonly #open = new Set<PendingReply>();

	constructor(deadlines: DeadlineQueue, maxPerCaller: number = MAX_PENDING_PER_CALLER) {
		this.#deadlines = deadlines;
		this.#maxPerCaller = maxPerCaller;
	}

	get size(): number {
		return this.#open.size;
	}

	/** `at`: when the caller stops waiting, in `Clock.monotonic()` milliseconds. Refuses with LIMIT_EXCEEDED. */
	open(caller: string, at: number, onOutcome: (outcome: ReplyOutcome) => void): PendingReply {
		const count = this.#perCaller.get(caller) ?? 0;
		if (count >= this.#maxPerCaller) {
			throw new HubError(
				"LIMIT_EXCEEDED",
				`${this.#maxPerCaller} requests of this plugin wait for their reply already`,
				{
					metadata: { limit: String(this.#maxPerCaller) },
					quota: { subject: `plugin:${caller}`, description: "requests that wait for a reply" },
				},
			);
		}
		this.#perCaller.set(caller, count + 1);
		const pending = new PendingReply(this, caller, at, onOutcome);
		this.#open.add(pending);
		this.#deadlines.add(pending);
		return pending;
	}

	/** Called by a reply that is settled. */
	close(pending: PendingReply, caller: string): void {
		this.#open.delete(pending);
		this.#deadlines.remove(pending);
		const count = this.#perCaller.get(caller)! - 1;
		if (count === 0) this.#perCaller.delete(caller);
		else this.#perCaller.set(caller, count);
	}

	/** Fails everything that waits: the hub stops. */
	failAll(error: HubError): void {
		for (const pending of this.#open) pending.fail(error);
	}
}
