import type { Clock } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import type { DeadlineQueue } from "../streams/deadline-queue.ts";
import type { MessagingCounters } from "./messaging-counters.ts";
import type { WithdrawalReason } from "./pending-replies.ts";
import type { QueuedMessage } from "./queued-message.ts";
import { type ReceivingSession, recipientGone, type SessionOwner } from "./receiving-session.ts";
import { type MailboxBounds, messageCost, RecipientMailbox } from "./recipient-mailbox.ts";

/** What became of an accepted message at once: assigned to a session that can take it, or waiting in the mailbox. */
export type MessageDisposition = "delivered" | "queued";

export interface RecipientOptions {
	readonly pluginId: string;
	readonly clock: Clock;
	readonly deadlines: DeadlineQueue;
	readonly counters: MessagingCounters;
	readonly bounds: MailboxBounds;
	/** The last session has left and the mailbox is empty. */
	readonly onDeserted: () => void;
}

/**
 * One attached plugin: its mailbox, and the sessions that compete for what is in it. A message goes to the session with
 * the smallest share of its places taken, among those that can take a frame now. What all of them hold unsettled is bounded
 * by the same number of bytes as the mailbox, whatever credit they give; the last message may go over.
 */
export class Recipient implements SessionOwner {
	readonly pluginId: string;
	readonly counters: MessagingCounters;
	readonly #clock: Clock;
	readonly #deadlines: DeadlineQueue;
	readonly #mailbox: RecipientMailbox;
	readonly #sessions = new Set<ReceivingSession>();
	readonly #maxUnsettledBytes: number;
	readonly #onDeserted: () => void;
	#unsettledBytes = 0;
	readonly #onExpiry = (message: QueuedMessage) => this.#expire(message);

	constructor(options: RecipientOptions) {
		this.pluginId = options.pluginId;
		this.counters = options.counters;
		this.#clock = options.clock;
		this.#deadlines = options.deadlines;
		this.#mailbox = new RecipientMailbox(options.bounds);
		this.#maxUnsettledBytes = options.bounds.maxBytes;
		this.#onDeserted = options.onDeserted;
	}

	get sessions(): ReadonlySet<ReceivingSession> {
		return this.#sessions;
	}

	/** Messages waiting. */
	get backlog(): number {
		return this.#mailbox.size;
	}

	join(session: ReceivingSession): void {
		this.#sessions.add(session);
	}

	/** Refuses with MAILBOX_FULL. */
	offer(message: QueuedMessage): MessageDisposition {
		if (!this.#mailbox.offer(message)) {
			this.counters.refusedFull++;
			throw new HubError("MAILBOX_FULL", "the recipient's mailbox is full", {
				metadata: { recipient: this.pluginId },
				quota: { subject: `plugin:${this.pluginId}`, description: "messages that wait in its mailbox" },
			});
		}
		message.onExpiry = this.#onExpiry;
		if (message.expires) this.#deadlines.add(message);
		this.#dispatch();
		return message.place === "delivered" ? "delivered" : "queued";
	}

	/** The sender of a request no longer waits. */
	withdraw(message: QueuedMessage, reason: WithdrawalReason): void {
		this.counters.withdrawn++;
		if (message.holder !== undefined) {
			message.holder.withdraw(message, reason);
		} else if (this.#mailbox.remove(message)) {
			this.#forgetDeadlines(message);
			this.#dispatch();
		}
	}

	now(): number {
		return this.#clock.monotonic();
	}

	fill(session: ReceivingSession): void {
		while (session.hasRoom) {
			const message = this.#take();
			if (message === undefined) return;
			session.assign(message);
		}
	}

	release(message: QueuedMessage): void {
		this.#unsettledBytes -= messageCost(message);
		this.#mailbox.release(message);
		this.#dispatch();
	}

	putBack(message: QueuedMessage): void {
		this.#unsettledBytes -= messageCost(message);
		this.#mailbox.putBack(message);
		if (message.expires) this.#deadlines.add(message);
	}

	redeliver(message: QueuedMessage, delayMs: number): void {
		if (delayMs <= 0) {
			this.putBack(message);
			this.#dispatch();
			return;
		}
		this.#unsettledBytes -= messageCost(message);
		this.#mailbox.postpone(message);
		if (message.expires) this.#deadlines.add(message);
		message.delay = {
			at: this.now() + delayMs,
			slot: -1,
			run: () => {
				message.delay = undefined;
				this.#mailbox.resume(message);
				this.#dispatch();
			},
		};
		this.#deadlines.add(message.delay);
		this.#dispatch();
	}

	/** What waits goes to the sessions that are left; with the last of them it is lost, since it is kept nowhere else. */
	leave(session: ReceivingSession): void {
		this.#sessions.delete(session);
		if (this.#sessions.size > 0) {
			this.#dispatch();
			return;
		}
		for (const message of this.#mailbox.drain()) {
			this.#forgetDeadlines(message);
			if (message.request === undefined) this.counters.lost++;
			else message.request.fail(recipientGone(this.pluginId));
		}
		this.#onDeserted();
	}

	#dispatch(): void {
		while (this.#mailbox.size > 0) {
			const session = this.#leastLoaded();
			if (session === undefined) return;
			const message = this.#take();
			if (message === undefined) return;
			session.assign(message);
		}
	}

	#leastLoaded(): ReceivingSession | undefined {
		let best: ReceivingSession | undefined;
		for (const session of this.#sessions) {
			if (session.hasRoom && (best === undefined || session.load < best.load)) best = session;
		}
		return best;
	}

	#take(): QueuedMessage | undefined {
		while (this.#unsettledBytes < this.#maxUnsettledBytes) {
			const message = this.#mailbox.take();
			if (message === undefined) return undefined;
			if (!this.#isOver(message)) {
				this.#unsettledBytes += messageCost(message);
				return message;
			}
			this.#mailbox.release(message);
			this.#expired(message);
		}
		return undefined;
	}

	/** Whether the time of a message that leaves the mailbox is over. */
	#isOver(message: QueuedMessage): boolean {
		if (!message.expires) return false;
		this.#deadlines.remove(message);
		return message.at <= this.now();
	}

	#expire(message: QueuedMessage): void {
		if (!this.#mailbox.remove(message)) return;
		this.#forgetDeadlines(message);
		this.#expired(message);
		this.#dispatch();
	}

	#expired(message: QueuedMessage): void {
		this.counters.expired++;
		message.request?.fail(new HubError("DEADLINE_EXCEEDED", "the request was not delivered in its time to live"));
	}

	#forgetDeadlines(message: QueuedMessage): void {
		this.#deadlines.remove(message);
		if (message.delay !== undefined) this.#deadlines.remove(message.delay);
		message.delay = undefined;
	}
}
