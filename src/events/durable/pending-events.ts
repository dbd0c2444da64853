import { type PendingEvent, pendingCost } from "./pending-event.ts";
import { ReadyEvents } from "./ready-events.ts";

/**
 * The events of one durable subscription that are read and not settled, in the order of the log.
 *
 * - PE-1 Of each ordering key at most one event is under way: ready, delivered or delayed. The next becomes ready when it
 *   is settled; so the events of a key are delivered in order, also where one of them is delivered again.
 * - PE-2 What is ready leaves in the order of the log.
 *
 * Whoever adds keeps to a bound by `size` and `bytes`.
 */
export class PendingEvents {
	/** By sequence, which ascends in the order of the map. */
	readonly #events = new Map<number, PendingEvent>();
	readonly #ready = new ReadyEvents();
	/** For each key with an event under way, those behind it. */
	readonly #behind = new Map<string, PendingEvent[]>();
	#bytes = 0;

	get size(): number {
		return this.#events.size;
	}

	/** Bytes in memory, about. */
	get bytes(): number {
		return this.#bytes;
	}

	/** Events that may be delivered now. */
	get ready(): number {
		return this.#ready.size;
	}

	/** All of them, in the order of the log. */
	values(): IterableIterator<PendingEvent> {
		return this.#events.values();
	}

	/** Takes an event from further on in the log. One with a delay is under way and not ready: `resume` makes it so. */
	add(event: PendingEvent): void {
		this.#events.set(event.sequence, event);
		this.#bytes += pendingCost(event);
		if (event.orderingKey !== "") {
			const behind = this.#behind.get(event.orderingKey);
			if (behind !== undefined) {
				behind.push(event);
				return;
			}
			this.#behind.set(event.orderingKey, []);
		}
		if (event.notBefore === 0) this.#ready.add(event);
	}

	/** PE-2. The next to deliver; undefined where none is ready. */
	take(): PendingEvent | undefined {
		return this.#ready.take();
	}

	/** An event that was delivered, or delayed, is ready again. */
	resume(event: PendingEvent): void {
		event.notBefore = 0;
		this.#ready.add(event);
	}

	/** The event is done with as far as the order of its key goes. Gives the one that is under way now, if there is one. */
	release(event: PendingEvent): PendingEvent | undefined {
		if (event.orderingKey === "") return undefined;
		const behind = this.#behind.get(event.orderingKey);
		const next = behind?.shift();
		if (next === undefined) this.#behind.delete(event.orderingKey);
		else if (next.notBefore === 0) this.#ready.add(next);
		return next;
	}

	/** Forgets an event that was released. */
	forget(event: PendingEvent): void {
		if (this.#events.delete(event.sequence)) this.#bytes -= pendingCost(event);
	}
}
