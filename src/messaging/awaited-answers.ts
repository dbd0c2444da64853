import type { Clock } from "../clock/clock.ts";
import type { Deadline, DeadlineQueue } from "../streams/deadline-queue.ts";
import { LinkedList } from "./linked-list.ts";
import type { StoredMessage } from "./queued-message.ts";

/**
 * The deliveries of one session whose answers are awaited. Each has the same time, so that the one that was begun first is due
 * first: one deadline is enough for all of them. A message is in no other list while it is delivered.
 */
export class AwaitedAnswers implements Deadline {
	readonly #deadlines: DeadlineQueue;
	readonly #clock: Clock;
	readonly #waitMs: number;
	readonly #onLate: (message: StoredMessage) => void;
	readonly #awaited = new LinkedList<StoredMessage>();
	at = 0;
	slot = -1;

	/** `onLate` runs once for each delivery that is not answered in `waitMs` milliseconds. */
	constructor(options: {
		readonly deadlines: DeadlineQueue;
		readonly clock: Clock;
		readonly waitMs: number;
		readonly onLate: (message: StoredMessage) => void;
	}) {
		this.#deadlines = options.deadlines;
		this.#clock = options.clock;
		this.#waitMs = options.waitMs;
		this.#onLate = options.onLate;
	}

	/** A delivery is on its way, or its recipient has shown a sign of life: its time begins. `now`: `Clock.monotonic()`. */
	await(message: StoredMessage, now: number = this.#clock.monotonic()): void {
		if (message.answerDue > 0) this.#awaited.remove(message);
		// A whole number, as one with a fraction would be an object beside each message.
		message.answerDue = Math.ceil(now + this.#waitMs);
		this.#awaited.append(message);
		if (this.slot < 0) this.#arm();
	}

	/** Harmless for one that is not awaited. */
	stop(message: StoredMessage): void {
		if (message.answerDue === 0) return;
		message.answerDue = 0;
		this.#awaited.remove(message);
		// Where others are left it is found out later that they have more time.
		if (this.#awaited.isEmpty) this.#deadlines.remove(this);
	}

	run(): void {
		const now = this.#clock.monotonic();
		for (let first = this.#awaited.first; first !== undefined && first.answerDue <= now; first = this.#awaited.first) {
			this.stop(first);
			this.#onLate(first);
		}
		if (this.slot < 0) this.#arm();
	}

	#arm(): void {
		const { first } = this.#awaited;
		if (first === undefined) return;
		this.at = first.answerDue;
		this.#deadlines.add(this);
	}
}
