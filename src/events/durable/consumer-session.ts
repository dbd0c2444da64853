import { HubError } from "../../hub-error.ts";
import type { PendingEvent } from "./pending-event.ts";

/** What a consumer says about a delivery. */
export type ConsumerOutcome =
	| { readonly kind: "acknowledge" }
	/** Undefined: the subscription's backoff says when to try again. */
	| { readonly kind: "negative"; readonly delayMs: number | undefined }
	| { readonly kind: "terminate"; readonly reason: string }
	| { readonly kind: "in-progress" };

/** One event on its way to a consumer. */
export interface EventDeliveryFields {
	readonly deliveryId: string;
	/** Field 1 of an `EventDelivery`. */
	readonly entry: Uint8Array;
	readonly attempt: number;
}

/** Events that were dropped before they were settled. */
export interface LostEvents {
	/** At most so many; 0: not known. */
	readonly lost: number;
	/** The last sequence that is no longer there. */
	readonly upTo: number;
}

/** What a session has to tell its consumer. */
export type ConsumerOutput =
	| { readonly kind: "deliveries"; readonly deliveries: readonly EventDeliveryFields[] }
	| ({ readonly kind: "lost" } & LostEvents)
	| { readonly kind: "caught-up" };

/** The group that a session belongs to. */
export interface SessionGroup {
	/** Whether nothing waits any more. */
	readonly isCaughtUp: boolean;
	/** Gives the session what it may have now. */
	deal(session: ConsumerSession): readonly PendingEvent[];
	settle(event: PendingEvent, outcome: ConsumerOutcome): void;
	/** Resolves when every acknowledgement and termination so far is stored. */
	stored(): Promise<void>;
	leave(session: ConsumerSession, isHubStopping: boolean): void;
}

/** What the stream that serves a session wants to hear. */
export interface ConsumerListener {
	/** There is something to collect. */
	wake(): void;
	/** The session ended, not by its own `close`; the stream ends with the error. */
	closed(error: HubError): void;
}

/**
 * One consumer of a durable subscription: an instance of its plugin.
 *
 * - CS-1 At most `maxInFlight` deliveries are unsettled; lowering it takes nothing back.
 * - CS-2 Events are dealt when the stream can take a frame, so what a slow reader does not take is there for the others.
 * - CS-3 When it ends, what it did not settle is delivered again, to whoever is there. Where the hub itself is stopping, these
 *   deliveries do not count as attempts.
 */
export class ConsumerSession {
	readonly id: string;
	readonly #group: SessionGroup;
	readonly #unsettled = new Map<string, PendingEvent>();
	/** The delivery of each unsettled event. */
	readonly #deliveryOf = new Map<PendingEvent, string>();
	#lost: LostEvents | undefined;
	#maxInFlight: number;
	#deliveries = 0;
	#toldCaughtUp = false;
	#hungry = false;
	#woken = false;
	#ended: HubError | undefined;
	#closed = false;
	#listener: ConsumerListener | undefined;

	constructor(group: SessionGroup, id: string, maxInFlight: number) {
		this.#group = group;
		this.id = id;
		this.#maxInFlight = maxInFlight;
	}

	/** Deliveries that it may take. */
	get room(): number {
		return Math.max(0, this.#maxInFlight - this.#unsettled.size);
	}

	/** Whether its stream has found nothing to take and would take something, and nobody has woken it yet. */
	get isHungry(): boolean {
		return this.#hungry && !this.#woken && this.room > 0;
	}

	/** The same, also where it was woken and has not come back yet. */
	get isAsking(): boolean {
		return this.#hungry && this.room > 0;
	}

	/** Whether its consumer was told that nothing waits any more. */
	get toldCaughtUp(): boolean {
		return this.#toldCaughtUp;
	}

	/** How busy it is: 1 and above is full. */
	get load(): number {
		return this.#maxInFlight === 0 ? Number.POSITIVE_INFINITY : this.#unsettled.size / this.#maxInFlight;
	}

	/** What it has and has not settled. */
	get unsettled(): Iterable<PendingEvent> {
		return this.#unsettled.values();
	}

	/** One listener; it is told at once of a session that ended before. */
	listen(listener: ConsumerListener): void {
		this.#listener = listener;
		if (this.#ended !== undefined) listener.closed(this.#ended);
	}

	/** What to send next. Undefined: nothing; the listener is told when that may have changed. */
	collect(): ConsumerOutput | undefined {
		if (this.#closed) return undefined;
		const lost = this.#lost;
		if (lost !== undefined) {
			this.#lost = undefined;
			return { kind: "lost", ...lost };
		}
		this.#hungry = this.#woken = false;
		const events = this.#group.deal(this);
		if (events.length > 0) {
			return {
				kind: "deliveries",
				deliveries: events.map((event) => {
					const deliveryId = String(++this.#deliveries);
					this.#unsettled.set(deliveryId, event);
					this.#deliveryOf.set(event, deliveryId);
					return { deliveryId, entry: event.entry, attempt: event.attempts };
				}),
			};
		}
		if (!this.#toldCaughtUp && this.#group.isCaughtUp) {
			this.#toldCaughtUp = true;
			return { kind: "caught-up" };
		}
		this.#hungry = true;
		return undefined;
	}

	/** There may be something to collect. */
	wake(): void {
		this.#woken = true;
		this.#listener?.wake();
	}

	/** Tells its consumer; what was not told yet is added up. */
	tellLost({ lost, upTo }: LostEvents): void {
		this.#lost = { lost: (this.#lost?.lost ?? 0) + lost, upTo };
		this.wake();
	}

	/** 0 pauses the session. */
	setMaxInFlight(maxInFlight: number): void {
		this.#maxInFlight = maxInFlight;
		this.wake();
	}

	/** Refuses with DELIVERY_NOT_FOUND. What `stored` resolves says whether an acknowledgement or a termination holds. */
	settle(deliveryId: string, outcome: ConsumerOutcome): void {
		const event = this.#unsettled.get(deliveryId);
		if (event === undefined) {
			throw new HubError("DELIVERY_NOT_FOUND", "the delivery is settled, out of time, or not of this session", {
				metadata: { delivery_id: deliveryId.slice(0, 64) },
			});
		}
		if (outcome.kind !== "in-progress") this.drop(event);
		this.#group.settle(event, outcome);
	}

	/** Resolves when every acknowledgement and termination so far is stored. */
	stored(): Promise<void> {
		return this.#group.stored();
	}

	/** The delivery of the event counts no longer. */
	drop(event: PendingEvent): void {
		const deliveryId = this.#deliveryOf.get(event);
		if (deliveryId === undefined) return;
		this.#deliveryOf.delete(event);
		this.#unsettled.delete(deliveryId);
	}

	/** CS-3. Ends it from the side of its stream. */
	close(isHubStopping = false): void {
		if (this.#closed) return;
		this.#closed = true;
		this.#hungry = false;
		this.#group.leave(this, isHubStopping);
		this.#unsettled.clear();
		this.#deliveryOf.clear();
	}

	/** Ends it from outside; its stream is told why. */
	end(error: HubError): void {
		if (this.#closed) return;
		this.#ended = error;
		this.close(error.reason === "HUB_DRAINING");
		this.#listener?.closed(error);
	}
}
