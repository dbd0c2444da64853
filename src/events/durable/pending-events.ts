import { type PendingEvent, pendingCost } from "./pending-event.ts";
import { ReadyEvents } from "./ready-events.ts";

/**
 * The events of one durable subscription that are read and not settled, in the order of the log. Those that were put back
 * wait here for their turn as well; they are counted and listed elsewhere.
 *
 * - PE-1 Of each ordering key at most one event is under way: ready, delivered or delayed. The next becomes ready when it
 *   is settled; so the events of a key are delivered in order, also where one of them is delivered again. One that was put
 *   back goes before all of its key that come later in the log and are not under way yet.
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

	/** Those that were read, in the order of the log. */
	values(): IterableIterator<PendingEvent> {
		return this.#events.values();
	}

	/** Whether the event was read from the log and is not settled. */
	has(sequence: number): boolean {
		return this.#events.has(sequence);
	}

	/**
	 * Takes an event from further on in the log, or one that was put back. It is under way where no other of its key is. One
	 * with a delay is then not ready: `resume` makes it so. One that has to wait for others has no delay any more.
	 */
	add(event: PendingEvent): void {
		if (event.returnedKey === undefined) {
			this.#events.set(event.sequence, event);
			this.#bytes += pendingCost(event);
		}
		if (event.orderingKey !== "") {
			const behind = this.#behind.get(event.orderingKey);
			if (behind !== undefined) {
				event.notBefore = 0;
				behind.splice(behind.findLastIndex(({ sequence }) => sequence < event.sequence) + 1, 0, event);
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

	/** The event is done with as far as the order of its key goes: the next one is under way. */
	release(event: PendingEvent): void {
		if (event.orderingKey === "") return;
		const next = this.#behind.get(event.orderingKey)?.shift();
		if (next === undefined) this.#behind.delete(event.orderingKey);
		else this.#ready.add(next);
	}

	/** Forgets an event that was released. */
	forget(event: PendingEvent): void {
		if (event.returnedKey === undefined && this.#events.delete(event.sequence)) this.#bytes -= pendingCost(event);
	}
}
