import type { Clock } from "../../clock/clock.ts";
import { DeadlineQueue } from "../../streams/deadline-queue.ts";
import type { PendingEvent } from "./pending-event.ts";

/** At most one timer an event: the end of its ack wait, or of its delay. */
export class EventTimers implements Disposable {
	readonly #clock: Clock;
	readonly #deadlines: DeadlineQueue;

	constructor(clock: Clock) {
		this.#clock = clock;
		this.#deadlines = new DeadlineQueue(clock);
	}

	/** Runs after so many milliseconds, in place of what the event's timer was to do. */
	set(event: PendingEvent, ms: number, run: () => void): void {
		this.clear(event);
		const at = this.#clock.monotonic() + ms;
		event.deadline = {
			at,
			slot: -1,
			run: () => {
				event.deadline = undefined;
				run();
			},
		};
		this.#deadlines.add(event.deadline);
	}

	clear(event: PendingEvent): void {
		if (event.deadline === undefined) return;
		this.#deadlines.remove(event.deadline);
		event.deadline = undefined;
	}

	[Symbol.dispose](): void {
		this.#deadlines[Symbol.dispose]();
	}
}
