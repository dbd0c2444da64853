import type { Clock } from "../clock/clock.ts";
import type { Deadline, DeadlineQueue } from "../streams/deadline-queue.ts";
import type { RestoredMessage } from "./mailbox-records.ts";
import { isForLater, type StoredMessage } from "./queued-message.ts";

/** Below this the wall clock and the timer may disagree, in milliseconds. */
const MIN_WAIT_MS = 1;

/**
 * Messages of one mailbox that are not due yet. They become due in the order of their times, those of one time in the order
 * in which they were accepted. Bounded by the mailbox.
 */
export class Schedule {
	readonly #clock: Clock;
	readonly #deadlines: DeadlineQueue;
	readonly #onDue: (message: StoredMessage) => void;
	/** The next one last. */
	readonly #waiting: StoredMessage[] = [];
	#deadline: Deadline | undefined;

	constructor(options: {
		readonly clock: Clock;
		readonly deadlines: DeadlineQueue;
		readonly onDue: (message: StoredMessage) => void;
	}) {
		this.#clock = options.clock;
		this.#deadlines = options.deadlines;
		this.#onDue = options.onDue;
	}

	add(message: StoredMessage): void {
		let low = 0;
		let high = this.#waiting.length;
		while (low < high) {
			const middle = (low + high) >>> 1;
			if (comesBefore(message, this.#waiting[middle]!)) low = middle + 1;
			else high = middle;
		}
		this.#waiting.splice(low, 0, message);
		if (low === this.#waiting.length - 1) this.#arm();
	}

	/** Forgets everything. */
	clear(): void {
		this.#waiting.length = 0;
		this.#arm();
	}

	#arm(): void {
		if (this.#deadline !== undefined) this.#deadlines.remove(this.#deadline);
		this.#deadline = undefined;
		const next = this.#waiting.at(-1);
		if (next === undefined) return;
		const wait = Math.max(MIN_WAIT_MS, next.stored.deliverTime - this.#clock.now());
		this.#deadline = { at: this.#clock.monotonic() + wait, slot: -1, run: () => this.#run() };
		this.#deadlines.add(this.#deadline);
	}

	#run(): void {
		const now = this.#clock.now();
		for (let next = this.#waiting.at(-1); next !== undefined; next = this.#waiting.at(-1)) {
			if (next.stored.deliverTime > now) break;
			this.#waiting.pop();
			this.#onDue(next);
		}
		this.#arm();
	}
}

function comesBefore({ stored: a }: StoredMessage, { stored: b }: StoredMessage): boolean {
	return a.deliverTime === b.deliverTime ? a.sequence < b.sequence : a.deliverTime < b.deliverTime;
}

/**
 * Stored messages in the order in which they took their places in the mailbox, or would have by `now`: as they were
 * accepted, with those that had to wait for their time behind what was accepted before it. `messages` are in the order of
 * their acceptance.
 */
export function inOrderOfArrival(messages: readonly RestoredMessage[], now: number): readonly RestoredMessage[] {
	const delayed = messages
		.filter(({ message }) => isForLater(message) && message.stored.deliverTime <= now)
		.sort((a, b) => (comesBefore(a.message, b.message) ? 1 : -1));
	const ordered: RestoredMessage[] = [];
	for (const restored of messages) {
		const { message } = restored;
		if (isForLater(message)) {
			if (message.stored.deliverTime > now) ordered.push(restored);
			continue;
		}
		while ((delayed.at(-1)?.message.stored.deliverTime ?? Number.POSITIVE_INFINITY) <= message.stored.acceptTime) {
			ordered.push(delayed.pop()!);
		}
		ordered.push(restored);
	}
	return ordered.concat(delayed.reverse());
}
