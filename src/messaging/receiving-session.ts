import { HubError } from "../hub-error.ts";
import type { AwaitedAnswers } from "./awaited-answers.ts";
import type { DeliveryPolicy } from "./delivery-policy.ts";
import type { MessagingCounters } from "./messaging-counters.ts";
import type { WithdrawalReason } from "./pending-replies.ts";
import { isStored, type MessageHolder, type QueuedMessage, type StoredMessage } from "./queued-message.ts";
import { failedReply, type ReplyDraft } from "./reply-content.ts";
import type { ByteRange, DeliveryFields } from "./stamped-message.ts";
import type { StoredDeliveries } from "./stored-deliveries.ts";

/** What a recipient says about a delivery. */
export type DeliveryOutcome =
	| { readonly kind: "acknowledge" }
	/** `delayMs` undefined: the recipient does not say. */
	| { readonly kind: "negative"; readonly delayMs: number | undefined }
	| { readonly kind: "terminate"; readonly reason: string }
	| { readonly kind: "in-progress" };

/** What a session has to tell its recipient. */
export type SessionOutput =
	| { readonly kind: "deliveries"; readonly deliveries: readonly DeliveryFields[] }
	| { readonly kind: "cancelled"; readonly deliveryId: string; readonly reason: WithdrawalReason };

/** The recipient that a session receives for. */
export interface SessionOwner {
	readonly counters: MessagingCounters;
	/** What becomes of durable messages. */
	readonly deliveries: StoredDeliveries;
	/** `Clock.monotonic()`. */
	now(): number;
	/** Assigns what waits, as far as the session has room. */
	fill(session: ReceivingSession): void;
	/** The message is settled for good. */
	release(message: QueuedMessage): void;
	/** The message was assigned and never handed out. */
	putBack(message: QueuedMessage): void;
	/** The message is to be delivered again, after a delay. */
	redeliver(message: QueuedMessage, delayMs: number): void;
	/** Undefined: it cannot be delivered any more. */
	bytesOf(message: QueuedMessage): ByteRange | undefined;
	/** A durable message was handed out for the first time. */
	handedOut(message: StoredMessage): void;
	leave(session: ReceivingSession): void;
}

export const MAX_IN_FLIGHT = 10_000;

/** How often a transient message is handed out at most. */
const MAX_ATTEMPTS = 5;

/** What one batch holds at most: deliveries, and bytes of messages (the last may go over). */
const BATCH_DELIVERIES = 512;
const BATCH_BYTES = 256 * 1024;

export interface SessionFields {
	readonly id: string;
	readonly pluginId: string;
	readonly instanceId: string;
	readonly maxInFlight: number;
	readonly policy: DeliveryPolicy;
}

/** What the stream that serves a session wants to hear. */
export interface SessionListener {
	/** There is something to collect. */
	wake(): void;
	/** The session ended, not by its own `close`; the stream ends with the error. */
	closed(error: HubError): void;
}

/**
 * One stream of deliveries to one instance of a plugin.
 *
 * - RS-1 At most `maxInFlight` deliveries are unsettled; lowering it takes nothing back.
 * - RS-2 A message is assigned only when the stream can take a frame now (`collect` has found nothing) or is about to; so
 *   what a slow reader does not take stays in the mailbox for the others.
 * - RS-3 When it ends, what was assigned and not handed out goes back to the mailbox. What was handed out and not settled
 *   is lost where it is one-way and transient, and fails with RECIPIENT_UNAVAILABLE where it is a request.
 * - RS-4 A request is settled by its reply, a termination, or the end of its sender's wait; it cannot be acknowledged, so
 *   that no sender waits for a reply that nobody owes.
 * - RS-5 A durable message that is not settled within the policy's ack wait, or whose session ends, has failed that delivery.
 *   Where the hub itself is stopping it has not.
 */
export class ReceivingSession implements MessageHolder {
	readonly id: string;
	readonly pluginId: string;
	/** Empty: tied to no instance. */
	readonly instanceId: string;
	readonly policy: DeliveryPolicy;
	readonly #owner: SessionOwner;
	/** To deliveries of durable messages. */
	readonly #answers: AwaitedAnswers;
	readonly #unsettled = new Map<string, QueuedMessage>();
	readonly #cancelled: { readonly deliveryId: string; readonly reason: WithdrawalReason }[] = [];
	#assigned: QueuedMessage[] = [];
	#assignedBytes = 0;
	#maxInFlight: number;
	#lastDelivery = 0;
	/** What is assigned is handed out in the order of its ids, all of it at once. */
	#lastHandedOut = 0;
	#hungry = false;
	#filling = false;
	#ended = false;
	#listener: SessionListener | undefined;

	constructor(owner: SessionOwner, fields: SessionFields) {
		this.#owner = owner;
		this.id = fields.id;
		this.pluginId = fields.pluginId;
		this.instanceId = fields.instanceId;
		this.policy = fields.policy;
		this.#maxInFlight = fields.maxInFlight;
		this.#answers = owner.deliveries.awaitAnswers(fields.policy.ackWaitMs, (message) => this.#late(message));
	}

	/** Deliveries that are not settled. */
	get unsettled(): number {
		return this.#unsettled.size;
	}

	/** How busy it is: 1 and above is full. */
	get load(): number {
		return this.#maxInFlight === 0 ? Number.POSITIVE_INFINITY : this.#unsettled.size / this.#maxInFlight;
	}

	/** RS-1, RS-2. Whether a message may be assigned now. */
	get hasRoom(): boolean {
		return (
			this.#hungry &&
			this.#unsettled.size < this.#maxInFlight &&
			this.#assigned.length < BATCH_DELIVERIES &&
			this.#assignedBytes < BATCH_BYTES
		);
	}

	/** One listener; a session that ended already tells nothing. */
	listen(listener: SessionListener): void {
		this.#listener = listener;
	}

	/** What to send next. Undefined: nothing; the listener is told when that changes. */
	collect(): SessionOutput | undefined {
		if (this.#ended) return undefined;
		const cancelled = this.#cancelled.pop();
		if (cancelled !== undefined) return { kind: "cancelled", ...cancelled };
		this.#hungry = true;
		this.#owner.fill(this);
		if (this.#assigned.length === 0) return undefined;
		const assigned = this.#assigned;
		this.#lastHandedOut = this.#lastDelivery;
		this.#assigned = [];
		this.#assignedBytes = 0;
		const deliveries: DeliveryFields[] = [];
		const now = this.#owner.now();
		for (const message of assigned) this.#handOut(message, now, deliveries);
		if (deliveries.length === 0) return undefined;
		this.#hungry = false;
		return { kind: "deliveries", deliveries };
	}

	/** Called by the owner for a session that has room. */
	assign(message: QueuedMessage): void {
		message.deliveryId = String(++this.#lastDelivery);
		message.holder = this;
		this.#unsettled.set(message.deliveryId, message);
		this.#assigned.push(message);
		this.#assignedBytes += message.size;
		this.#listener?.wake();
	}

	/** 0 pauses the session. */
	setMaxInFlight(maxInFlight: number): void {
		this.#maxInFlight = maxInFlight;
		if (!this.#ended) this.#owner.fill(this);
	}

	/**
	 * Throws DELIVERY_NOT_FOUND, and INVALID_FIELD for the acknowledgement of a request (RS-4). Otherwise `settled` is told once:
	 * for a durable message when what was said is stored, or why it could not be; for another at once.
	 */
	settle(deliveryId: string, outcome: DeliveryOutcome, settled: (error?: unknown) => void = () => {}): void {
		const message = this.#find(deliveryId);
		if (isStored(message)) {
			this.#settleStored(message, outcome, settled);
			return;
		}
		this.#settleTransient(message, outcome);
		settled();
	}

	/** Answers a request. Refuses with DELIVERY_NOT_FOUND, and with INVALID_FIELD for a one-way message. */
	reply(deliveryId: string, reply: ReplyDraft): void {
		const { message, request } = this.#findRequest(deliveryId);
		this.#settled(message);
		this.#owner.counters.answered++;
		request.answer(reply.wire, this.pluginId);
	}

	/**
	 * A reply that the hub refuses to pass on settles the request all the same: its sender gets an unsuccessful reply
	 * `invalid_reply` at once, because the handler believes that it has answered.
	 */
	refuseReply(deliveryId: string, error: HubError): void {
		const { message, request } = this.#findRequest(deliveryId);
		this.#settled(message);
		request.answer(
			failedReply("invalid_reply", `the hub refused the handler's reply: ${error.message}`, false),
			this.pluginId,
		);
	}

	/** The sender of a request that this session has no longer waits. */
	withdraw(message: QueuedMessage, reason: WithdrawalReason): void {
		const { deliveryId } = message;
		const assigned = this.#assigned.indexOf(message);
		if (assigned >= 0) {
			this.#assigned.splice(assigned, 1);
			this.#assignedBytes -= message.size;
		} else {
			this.#cancelled.push({ deliveryId, reason });
		}
		this.#settled(message);
		this.#listener?.wake();
	}

	/** RS-3, RS-5. Ends the session from the side of its stream. */
	close(isHubStopping = false): void {
		if (this.#ended) return;
		this.#ended = true;
		this.#hungry = false;
		// First what goes back: settling the rest brings up messages that came later, and those would go ahead of it.
		for (const message of this.#assigned) {
			this.#unsettled.delete(message.deliveryId);
			message.holder = undefined;
			this.#owner.putBack(message);
		}
		this.#assigned = [];
		for (const message of this.#unsettled.values()) {
			message.holder = undefined;
			if (isStored(message)) {
				this.#answers.stop(message);
				if (isHubStopping) this.#owner.redeliver(message, 0);
				else void this.#owner.deliveries.fail(message, this.policy, "its session ended");
				continue;
			}
			this.#owner.release(message);
			if (message.request === undefined) this.#owner.counters.lost++;
			else message.request.fail(recipientGone(this.pluginId));
		}
		this.#unsettled.clear();
		this.#cancelled.length = 0;
		this.#owner.leave(this);
	}

	/** Ends the session from outside; its stream is told why. */
	end(error: HubError): void {
		if (this.#ended) return;
		this.close(error.reason === "HUB_DRAINING");
		this.#listener?.closed(error);
	}

	#handOut(message: QueuedMessage, now: number, deliveries: DeliveryFields[]): void {
		const bytes = this.#owner.bytesOf(message);
		if (bytes === undefined) {
			this.#detach(message);
			if (isStored(message)) this.#owner.deliveries.drop(message);
			return;
		}
		const attempt = ++message.attempt;
		const { counters } = this.#owner;
		counters.delivered++;
		if (attempt > 1) counters.redelivered++;
		const timeLeftMs = message.request === undefined ? undefined : message.request.at - now;
		deliveries.push({ id: message.deliveryId, message: bytes, attempt, timeLeftMs });
		if (!isStored(message)) return;
		if (attempt === 1) this.#owner.handedOut(message);
		this.#answers.await(message, now);
	}

	#late(message: StoredMessage): void {
		this.#detach(message);
		void this.#owner.deliveries.fail(message, this.policy, "not acknowledged in time");
	}

	#settleTransient(message: QueuedMessage, outcome: DeliveryOutcome): void {
		switch (outcome.kind) {
			case "in-progress":
				return;
			case "acknowledge":
				if (message.request !== undefined) {
					throw HubError.field("acknowledge", "a request is settled by its reply or by a termination");
				}
				this.#settled(message);
				return;
			case "terminate":
				this.#reject(message, failedReply("terminated", outcome.reason, true));
				return;
			case "negative":
				if (message.attempt >= MAX_ATTEMPTS) {
					this.#reject(message, failedReply("attempts_exhausted", `not handled in ${MAX_ATTEMPTS} attempts`, false));
					return;
				}
				this.#detach(message);
				this.#owner.redeliver(message, outcome.delayMs ?? 0);
		}
	}

	#settleStored(message: StoredMessage, outcome: DeliveryOutcome, settled: (error?: unknown) => void): void {
		const { deliveries, counters } = this.#owner;
		if (outcome.kind === "in-progress") {
			this.#answers.await(message);
			settled();
			return;
		}
		this.#detach(message);
		// Its place is free at once, while its ordering key is held until this is stored.
		this.#fillLater();
		if (outcome.kind === "acknowledge") {
			deliveries.acknowledge(message, settled);
		} else if (outcome.kind === "negative") {
			void deliveries.fail(message, this.policy, "refused by its recipient", outcome.delayMs).then(() => settled());
		} else {
			counters.rejected++;
			deliveries.park(message, `terminated: ${outcome.reason}`).then(() => settled(), settled);
		}
	}

	/** Once for all that is settled in one go. */
	#fillLater(): void {
		if (this.#filling) return;
		this.#filling = true;
		queueMicrotask(() => {
			this.#filling = false;
			if (!this.#ended) this.#owner.fill(this);
		});
	}

	/** It is no delivery of this session any more. */
	#detach(message: QueuedMessage): void {
		this.#unsettled.delete(message.deliveryId);
		message.holder = undefined;
		if (isStored(message)) this.#answers.stop(message);
	}

	#reject(message: QueuedMessage, reply: Uint8Array): void {
		this.#settled(message);
		if (message.request === undefined) this.#owner.counters.rejected++;
		else message.request.answer(reply, this.pluginId);
	}

	#settled(message: QueuedMessage): void {
		this.#unsettled.delete(message.deliveryId);
		message.holder = undefined;
		this.#owner.release(message);
	}

	#find(deliveryId: string): QueuedMessage {
		const message = this.#unsettled.get(deliveryId);
		// What is assigned and not handed out has an id that the recipient can only have guessed: its attempt is yet to come.
		if (message !== undefined && Number(deliveryId) <= this.#lastHandedOut) return message;
		this.#owner.counters.late++;
		throw new HubError("DELIVERY_NOT_FOUND", "the delivery is settled, out of time, or not of this session", {
			metadata: { delivery_id: deliveryId.slice(0, 64) },
		});
	}

	#findRequest(deliveryId: string) {
		const message = this.#find(deliveryId);
		if (message.request === undefined) throw HubError.field("delivery_id", "the message does not wait for a reply");
		return { message, request: message.request };
	}
}

/** A known plugin for which nobody is attached (any more). */
export function recipientGone(pluginId: string): HubError {
	return new HubError("RECIPIENT_UNAVAILABLE", "nobody is attached for the recipient", {
		metadata: { recipient: pluginId },
	});
}
