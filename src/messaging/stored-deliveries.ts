import type { Clock } from "../clock/clock.ts";
import type { DeadLetters } from "../dead-letters/dead-letters.ts";
import type { KvWrite } from "../state/kv-store.ts";
import type { DeadlineQueue } from "../streams/deadline-queue.ts";
import { AwaitedAnswers } from "./awaited-answers.ts";
import { backoffAfter, type DeliveryPolicy } from "./delivery-policy.ts";
import type { MessagingCounters } from "./messaging-counters.ts";
import type { StoredMessage } from "./queued-message.ts";
import type { Settlement } from "./settlements.ts";
import type { StoredMailbox } from "./stored-mailbox.ts";

export interface StoredDeliveriesOptions {
	readonly mailbox: StoredMailbox;
	readonly letters: DeadLetters;
	readonly clock: Clock;
	readonly deadlines: DeadlineQueue;
	readonly counters: MessagingCounters;
	/** The message is settled for good. */
	readonly onSettled: (message: StoredMessage) => void;
	/** The message is to be delivered again, after so many milliseconds. */
	readonly onAgain: (message: StoredMessage, delayMs: number) => void;
}

/** Where the letters come from that this puts among the dead. */
export const MAILBOX_ORIGIN = "mailbox";

const NO_WRITES: readonly KvWrite[] = [];

/** How long to wait with a message that could not be settled for a fault of the storage, in milliseconds. */
const FAULT_PAUSE_MS = 1000;

/** One object for each message that is acknowledged. */
class Acknowledgement implements Settlement {
	readonly message: StoredMessage;
	readonly #options: StoredDeliveriesOptions;
	readonly #told: (error?: unknown) => void;

	constructor(options: StoredDeliveriesOptions, message: StoredMessage, told: (error?: unknown) => void) {
		this.message = message;
		this.#options = options;
		this.#told = told;
	}

	get also(): readonly KvWrite[] {
		return NO_WRITES;
	}

	settled(error?: unknown): void {
		const { counters, onSettled, onAgain } = this.#options;
		if (error === undefined) {
			counters.acknowledged++;
			onSettled(this.message);
		} else {
			onAgain(this.message, FAULT_PAUSE_MS);
		}
		this.#told(error);
	}
}

/**
 * What becomes of the durable messages that one recipient was delivered.
 *
 * - SD-1 A message counts as delivered, so that the next of its ordering key does not go, until its settlement is stored.
 * - SD-2 A failed delivery is stored before the next one. Deliveries that are under way when the process ends are not.
 * - SD-3 After its last attempt a message becomes a dead letter, in one commit; where that fails it is delivered once more.
 */
export class StoredDeliveries {
	readonly #options: StoredDeliveriesOptions;

	constructor(options: StoredDeliveriesOptions) {
		this.#options = options;
	}

	/** Watches over the answers to one session's deliveries. */
	awaitAnswers(waitMs: number, onLate: (message: StoredMessage) => void): AwaitedAnswers {
		const { deadlines, clock } = this.#options;
		return new AwaitedAnswers({ deadlines, clock, waitMs, onLate });
	}

	/** SD-1. `settled` is told why it could not be stored, where that is so; the message is then delivered again. */
	acknowledge(message: StoredMessage, settled: (error?: unknown) => void): void {
		this.#options.mailbox.finish(new Acknowledgement(this.#options, message, settled));
	}

	/** A delivery has failed; `delayMs` goes before the policy's backoff. Resolves once that is stored, or cannot be. */
	fail(message: StoredMessage, policy: DeliveryPolicy, why: string, delayMs?: number): Promise<void> {
		const { clock, mailbox, onAgain } = this.#options;
		const { attempt } = message;
		if (attempt >= policy.maxDeliveries) return this.park(message, `${why}, in delivery ${attempt}`).catch(() => {});
		const delay = delayMs ?? backoffAfter(policy, attempt);
		const due = clock.monotonic() + delay;
		return new Promise((resolve) => {
			mailbox.note(message, delay > 0 ? clock.now() + delay : 0, () => {
				onAgain(message, due - clock.monotonic());
				resolve();
			});
		});
	}

	/** SD-3. Rejects where it could not be stored. */
	park(message: StoredMessage, reason: string): Promise<void> {
		const { mailbox, letters, onSettled, onAgain } = this.#options;
		const item = mailbox.read(message);
		if (item === undefined || mailbox.gone) {
			onSettled(message);
			return Promise.resolve();
		}
		const { attempt: attempts } = message;
		const letter = letters.park({ pluginId: mailbox.pluginId, origin: MAILBOX_ORIGIN, item, attempts, reason });
		return new Promise((resolve, reject) => {
			const settled = (error: unknown) => {
				letter.settled(error === undefined);
				if (error === undefined) {
					onSettled(message);
					resolve();
				} else {
					onAgain(message, FAULT_PAUSE_MS);
					reject(error);
				}
			};
			mailbox.finish({ message, also: letter.writes, settled });
		});
	}

	/** It cannot be delivered any more, because its plugin is gone. */
	drop(message: StoredMessage): void {
		this.#options.onSettled(message);
	}

	/** Its time is over. Where that cannot be stored it is found expired at the next start. */
	expire(message: StoredMessage): void {
		this.#options.mailbox.finish({ message, also: NO_WRITES, settled() {} });
	}
}
