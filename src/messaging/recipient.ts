import type { Clock } from "../clock/clock.ts";
import type { DeadLetters } from "../dead-letters/dead-letters.ts";
import { HubError } from "../hub-error.ts";
import type { DeadlineQueue } from "../streams/deadline-queue.ts";
import type { MessageDisposition } from "./accepted-message.ts";
import type { RestoredMessage } from "./mailbox-records.ts";
import type { MessageMemory } from "./message-memory.ts";
import type { MessageStore } from "./message-store.ts";
import type { MessagingCounters } from "./messaging-counters.ts";
import type { MessageOwner } from "./open-block.ts";
import type { WithdrawalReason } from "./pending-replies.ts";
import { isStored, type QueuedMessage, type StoredMessage } from "./queued-message.ts";
import { type ReceivingSession, recipientGone, type SessionOwner } from "./receiving-session.ts";
import { type MailboxBounds, messageCost, RecipientMailbox } from "./recipient-mailbox.ts";
import { inOrderOfArrival, Schedule } from "./schedule.ts";
import type { ByteRange } from "./stamped-message.ts";
import { StoredDeliveries } from "./stored-deliveries.ts";
import type { StoredMailbox } from "./stored-mailbox.ts";

export interface RecipientOptions {
	readonly pluginId: string;
	readonly clock: Clock;
	readonly deadlines: DeadlineQueue;
	readonly counters: MessagingCounters;
	readonly bounds: MailboxBounds;
	readonly memory: MessageMemory;
	readonly store: MessageStore;
	readonly letters: DeadLetters;
	/** The last session has left, and no durable message is left either. */
	readonly onDeserted: () => void;
}

/**
 * One plugin that is attached or has durable messages: its mailbox, and the sessions that compete for what is in it. A message
 * goes to the session with the smallest share of its places taken, among those that can take a frame now. What all of them hold
 * unsettled is bounded by the same number of bytes as the mailbox, whatever credit they give; the last message may go over.
 */
export class Recipient implements SessionOwner, MessageOwner {
	readonly pluginId: string;
	readonly counters: MessagingCounters;
	readonly #clock: Clock;
	readonly #deadlines: DeadlineQueue;
	readonly #waiting: RecipientMailbox;
	readonly #memory: MessageMemory;
	/** Its durable messages, as they are stored. */
	readonly mailbox: StoredMailbox;
	readonly deliveries: StoredDeliveries;
	readonly #schedule: Schedule;
	readonly #sessions = new Set<ReceivingSession>();
	readonly #maxUnsettledBytes: number;
	readonly #onDeserted: () => void;
	#unsettledBytes = 0;
	/** What its messages take of the memory, from their acceptance until they are settled. */
	#held = 0;
	/** Durable messages, from their acceptance until their settlement is stored. */
	#durable = 0;
	readonly #onExpiry = (message: QueuedMessage) => this.#expire(message);

	constructor(options: RecipientOptions) {
		this.pluginId = options.pluginId;
		this.counters = options.counters;
		this.#clock = options.clock;
		this.#deadlines = options.deadlines;
		this.#waiting = new RecipientMailbox(options.bounds);
		this.#memory = options.memory;
		this.#maxUnsettledBytes = options.bounds.maxBytes;
		this.#onDeserted = options.onDeserted;
		this.mailbox = options.store.mailbox(options.pluginId);
		this.#schedule = new Schedule({
			clock: options.clock,
			deadlines: options.deadlines,
			onDue: (message) => {
				this.#waiting.arrive(message);
				this.#dispatch();
			},
		});
		this.deliveries = new StoredDeliveries({
			mailbox: this.mailbox,
			letters: options.letters,
			clock: options.clock,
			deadlines: options.deadlines,
			counters: options.counters,
			onSettled: (message) => this.#settled(message),
			onAgain: (message, delayMs) => this.redeliver(message, delayMs),
		});
	}

	get sessions(): ReadonlySet<ReceivingSession> {
		return this.#sessions;
	}

	/** Messages waiting. */
	get backlog(): number {
		return this.#waiting.size;
	}

	/** Their bytes. */
	get backlogBytes(): number {
		return this.#waiting.bytes;
	}

	join(session: ReceivingSession): void {
		this.#sessions.add(session);
	}

	/** Takes a transient message. Refuses with MAILBOX_FULL. */
	offer(message: QueuedMessage): MessageDisposition {
		this.#requireRoom(message);
		this.#hold(message);
		return this.#takeIn(message);
	}

	/** Keeps room for a durable message that is being stored. Refuses with MAILBOX_FULL. */
	expect(message: StoredMessage): void {
		this.#requireRoom(message);
		this.#waiting.expect(message, true);
		this.#hold(message);
		this.#durable++;
	}

	/** What was expected is not stored. */
	notStored(message: StoredMessage, error: unknown): void {
		this.#waiting.expect(message, false);
		this.#letGo(message);
		this.#durable--;
		this.checkDeserted();
		message.stored.told?.(undefined, error);
	}

	/** What was expected is stored. */
	stored(message: StoredMessage): MessageDisposition {
		const disposition = this.#arrived(message);
		const { told } = message.stored;
		if (told !== undefined) {
			message.stored.told = undefined;
			this.counters.sent++;
			told({ id: message.id, disposition, duplicate: false });
		}
		return disposition;
	}

	#arrived(message: StoredMessage): MessageDisposition {
		this.#waiting.expect(message, false);
		if (this.mailbox.gone) {
			this.#letGo(message);
			this.#durable--;
			return "queued";
		}
		return this.#takeIn(message);
	}

	/** Takes back what was stored when the hub stopped, in the order in which it was accepted. */
	restore(messages: readonly RestoredMessage[]): void {
		const now = this.#clock.now();
		for (const { message, notBefore } of inOrderOfArrival(messages, now)) {
			this.#hold(message);
			this.#durable++;
			this.#takeIn(message);
			if (notBefore > now && this.#waiting.holdBack(message)) this.#resumeIn(message, notBefore - now);
		}
	}

	/** The plugin is no longer registered: nothing of what it has is delivered any more. `mailbox` is gone already. */
	abandon(error: HubError): void {
		for (const session of [...this.#sessions]) session.end(error);
		this.#schedule.clear();
		for (const message of [...this.#waiting.waiting()]) this.#withdrawn(message);
		this.checkDeserted();
	}

	/** The sender of a request no longer waits. */
	withdraw(message: QueuedMessage, reason: WithdrawalReason): void {
		this.counters.withdrawn++;
		if (message.holder !== undefined) {
			message.holder.withdraw(message, reason);
		} else if (this.#waiting.remove(message)) {
			this.#letGo(message);
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
		this.#letGo(message);
		this.#waiting.release(message);
		this.#dispatch();
	}

	putBack(message: QueuedMessage): void {
		this.#unsettledBytes -= messageCost(message);
		this.#waiting.putBack(message);
		if (message.expires) this.#deadlines.add(message);
	}

	redeliver(message: QueuedMessage, delayMs: number): void {
		if (isStored(message) && this.mailbox.gone) {
			this.#settled(message);
			return;
		}
		if (delayMs <= 0) {
			this.putBack(message);
			this.#dispatch();
			return;
		}
		this.#unsettledBytes -= messageCost(message);
		this.#waiting.postpone(message);
		if (message.expires) this.#deadlines.add(message);
		this.#resumeIn(message, delayMs);
		this.#dispatch();
	}

	/** The bytes of a message that is handed out; undefined: its plugin is gone. */
	bytesOf(message: QueuedMessage): ByteRange | undefined {
		const { bytes } = message;
		if (bytes !== undefined) return { bytes, start: 0, end: bytes.byteLength };
		return isStored(message) ? this.mailbox.rangeOf(message) : undefined;
	}

	handedOut(message: StoredMessage): void {
		this.mailbox.handedOut(message);
	}

	/** What waits goes to the sessions that are left; with the last of them what is transient is lost. */
	leave(session: ReceivingSession): void {
		this.#sessions.delete(session);
		if (this.#sessions.size > 0) {
			this.#dispatch();
			return;
		}
		for (const message of [...this.#waiting.waiting()]) if (!isStored(message)) this.#withdrawn(message);
		this.checkDeserted();
	}

	/** To be called after anything that may have left it with nothing. */
	checkDeserted(): void {
		if (this.#sessions.size === 0 && this.#durable === 0) this.#onDeserted();
	}

	#requireRoom(message: QueuedMessage): void {
		const description = this.#whatIsFull(message);
		if (description === undefined) return;
		this.counters.refusedFull++;
		throw new HubError("MAILBOX_FULL", "the recipient's mailbox is full", {
			metadata: { recipient: this.pluginId },
			quota: { subject: `plugin:${this.pluginId}`, description },
		});
	}

	#whatIsFull(message: QueuedMessage): string | undefined {
		if (!this.#waiting.hasRoom(message)) return "messages that wait in its mailbox";
		if (!this.#waiting.hasRoomForLater(message)) return "messages in its mailbox that are not due, of this sender";
		if (!this.#memory.hasRoom(this.#held, message)) return "its share of the hub's memory for messages";
		return undefined;
	}

	#hold(message: QueuedMessage): void {
		this.#held += this.#memory.hold(message, true);
	}

	#letGo(message: QueuedMessage): void {
		this.#held += this.#memory.hold(message, false);
	}

	#takeIn(message: QueuedMessage): MessageDisposition {
		message.onExpiry = this.#onExpiry;
		if (message.expires) this.#deadlines.add(message);
		if (isStored(message) && message.stored.deliverTime > this.#clock.now()) {
			this.#waiting.schedule(message);
			this.#schedule.add(message);
		} else {
			this.#waiting.add(message);
			this.#dispatch();
		}
		this.#memory.settleDown(message);
		return message.place === "delivered" ? "delivered" : "queued";
	}

	#resumeIn(message: QueuedMessage, delayMs: number): void {
		const run = () => {
			message.delay = undefined;
			this.#waiting.resume(message);
			this.#dispatch();
		};
		message.delay = { at: this.now() + delayMs, slot: -1, run };
		this.#deadlines.add(message.delay);
	}

	/** A durable message is settled for good. */
	#settled(message: StoredMessage): void {
		this.#durable--;
		this.release(message);
		this.checkDeserted();
	}

	/** Takes out what nobody will get. */
	#withdrawn(message: QueuedMessage): void {
		if (!this.#waiting.remove(message)) return;
		this.#letGo(message);
		this.#forgetDeadlines(message);
		if (isStored(message)) this.#durable--;
		else if (message.request === undefined) this.counters.lost++;
		else message.request.fail(recipientGone(this.pluginId));
	}

	#dispatch(): void {
		while (this.#waiting.size > 0) {
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
			const message = this.#waiting.take();
			if (message === undefined) return undefined;
			if (!this.#isOver(message)) {
				this.#unsettledBytes += messageCost(message);
				return message;
			}
			this.#waiting.release(message);
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
		if (!this.#waiting.remove(message)) return;
		this.#forgetDeadlines(message);
		this.#expired(message);
		this.#dispatch();
	}

	#expired(message: QueuedMessage): void {
		this.counters.expired++;
		this.#letGo(message);
		if (isStored(message)) {
			this.deliveries.expire(message);
			this.#durable--;
			this.checkDeserted();
		}
		message.request?.fail(new HubError("DEADLINE_EXCEEDED", "the request was not delivered in its time to live"));
	}

	#forgetDeadlines(message: QueuedMessage): void {
		this.#deadlines.remove(message);
		if (message.delay !== undefined) this.#deadlines.remove(message.delay);
		message.delay = undefined;
	}
}
