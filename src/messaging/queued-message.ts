import type { Deadline } from "../streams/deadline-queue.ts";
import type { AcceptanceListener } from "./accepted-message.ts";
import type { Linked } from "./linked-list.ts";
import type { MessageBlock } from "./message-block.ts";
import type { PriorityClass } from "./message-draft.ts";
import type { PendingReply, WithdrawalReason } from "./pending-replies.ts";
import type { SenderIds } from "./sender-ids.ts";

/** The session that a message is delivered to, as far as the message's sender may reach it. */
export interface MessageHolder {
	/** The sender no longer waits for the reply to `message`, which this holder has. */
	withdraw(message: QueuedMessage, reason: WithdrawalReason): void;
}

/** Where a durable message is stored, and what is stored with it. */
export interface StoredPlace {
	/** Orders the messages of one mailbox by their acceptance. */
	readonly sequence: number;
	/** Milliseconds since the Unix epoch. */
	readonly acceptTime: number;
	/** Not delivered before, in milliseconds since the Unix epoch; 0: at once. */
	readonly deliverTime: number;
	/** Milliseconds from the later of the two times; 0: no bound. */
	readonly ttlMs: number;
	/** Tells a repeat from another message of the same id; empty: the hub made the id. */
	readonly digest: string;
	/** Whether something about its deliveries is stored too. */
	noted: boolean;
	/** What it is stored in; undefined before and after. */
	block: StoredBlock | undefined;
	/** Which of the block's messages it is. */
	place: number;
	/** Where its own bytes begin in those of the block. */
	start: number;
	/** Where its id is known, where its sender chose one and it is not settled. */
	ids: SenderIds | undefined;
	/** Halves of the hash that it is found by there. */
	idLow: number;
	idHigh: number;
	/** Who waits until it is stored. */
	told: AcceptanceListener | undefined;
}

/** Of a message that is in no block yet, and whose id is known nowhere. */
export function unplaced(
	order: Pick<StoredPlace, "sequence" | "acceptTime" | "deliverTime" | "ttlMs" | "digest">,
	noted: boolean,
	told: AcceptanceListener | undefined,
): StoredPlace {
	const { sequence, acceptTime, deliverTime, ttlMs, digest } = order;
	return {
		sequence,
		acceptTime,
		deliverTime,
		ttlMs,
		digest,
		noted,
		block: undefined,
		place: 0,
		start: 0,
		ids: undefined,
		idLow: 0,
		idHigh: 0,
		told,
	};
}

export interface QueuedMessageFields {
	readonly id: string;
	readonly source: string;
	readonly priority: PriorityClass;
	/** Empty: none. */
	readonly orderingKey: string;
	/** From `stampMessage`; undefined for a durable one: its block has them. */
	readonly bytes: Uint8Array | undefined;
	/** Bytes that `bytes` has or would have. */
	readonly size: number;
	/** `Clock.monotonic()` after which it is not delivered; infinite: no bound. */
	readonly expiresAt: number;
	/** Who waits for the reply; undefined for a one-way message. */
	readonly request: PendingReply | undefined;
	/** Undefined: it is transient. */
	readonly stored: StoredPlace | undefined;
}

/**
 * Where an accepted message is: `waiting` in its mailbox (for its turn, for its ordering key, or for the end of a delay),
 * `delivered` to a session, or `gone`. One that is being settled in the store counts as delivered until that is done.
 */
export type MessagePlace = "waiting" | "delivered" | "gone";

function ignore(): void {}

/** A message that the hub has accepted and its recipient has not settled. */
export class QueuedMessage implements Linked, Deadline {
	readonly id: string;
	readonly source: string;
	readonly priority: PriorityClass;
	readonly orderingKey: string;
	bytes: Uint8Array | undefined;
	readonly size: number;
	readonly at: number;
	readonly request: PendingReply | undefined;
	readonly stored: StoredPlace | undefined;
	/** Runs when the message expires while it waits. */
	onExpiry: (message: QueuedMessage) => void = ignore;
	place: MessagePlace = "gone";
	/** While it is delivered: to whom, and the delivery's id there. */
	holder: MessageHolder | undefined = undefined;
	deliveryId = "";
	/** While it is held back after a failed delivery. */
	delay: Deadline | undefined = undefined;
	/** While a delivery of a durable message waits for its answer: until when, on the monotonic clock; else 0. */
	answerDue = 0;
	/** How often it was handed out. */
	attempt = 0;
	/** Arrival number in its mailbox; keeps its place in the order when it comes back. */
	sequence = 0;
	slot = -1;
	previous: this | undefined = undefined;
	following: this | undefined = undefined;

	constructor(fields: QueuedMessageFields) {
		this.id = fields.id;
		this.source = fields.source;
		this.priority = fields.priority;
		this.orderingKey = fields.orderingKey;
		this.bytes = fields.bytes;
		this.size = fields.size;
		this.at = fields.expiresAt;
		this.request = fields.request;
		this.stored = fields.stored;
	}

	/** Whether it has a time after which it is not delivered. */
	get expires(): boolean {
		return this.at !== Number.POSITIVE_INFINITY;
	}

	run(): void {
		this.onExpiry(this);
	}
}

/** A durable message has its place; it always does where this is called for. */
export type StoredMessage = QueuedMessage & { readonly stored: StoredPlace };

/** What durable messages are stored in. */
export type StoredBlock = MessageBlock<StoredMessage>;

export function isStored(message: QueuedMessage): message is StoredMessage {
	return message.stored !== undefined;
}

/** Whether its sender wants it to be delivered later than it came. */
export function isForLater({ stored }: Pick<QueuedMessage, "stored">): boolean {
	return stored !== undefined && stored.deliverTime > stored.acceptTime;
}
