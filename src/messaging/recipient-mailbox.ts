import { FairShares } from "../streams/fair-shares.ts";
import { LinkedList } from "./linked-list.ts";
import { isForLater, type QueuedMessage } from "./queued-message.ts";
import { SenderRotation } from "./sender-rotation.ts";

export interface MailboxBounds {
	/** The most messages that may wait. Default 10,000. */
	readonly maxMessages: number;
	/** The most bytes that may wait, as `messageCost` counts them. Default 64 MiB. */
	readonly maxBytes: number;
}

export const DEFAULT_MAILBOX_BOUNDS: MailboxBounds = Object.freeze({
	maxMessages: 10_000,
	maxBytes: 64 * 1024 * 1024,
});

/** Turns in a round, from high to low: while all three wait, of 12 messages 8 are high, 3 normal and 1 is low. */
export const PRIORITY_WEIGHTS: readonly [number, number, number] = Object.freeze([8, 3, 1]);

/** Bytes that a message takes beside its wire form, roughly. */
const MESSAGE_OVERHEAD = 256;

/** What a message counts for towards `maxBytes`. */
export function messageCost(message: QueuedMessage): number {
	return message.size + MESSAGE_OVERHEAD;
}

/** Messages of one sender and ordering key, of which one at a time may be delivered. */
interface Lane {
	/** The one that may be delivered, is delivered, or is held back for a delay. */
	head: QueuedMessage;
	readonly behind: LinkedList<QueuedMessage>;
}

/**
 * What waits for one recipient. It alone decides the order, and it is the only place where messages wait.
 *
 * - RM-1 Priorities share by `PRIORITY_WEIGHTS`: in each round every priority that has something waiting gets its turns,
 *   the higher first, so that none is starved; turns that are not used are not kept.
 * - RM-2 Within a priority senders take turns, one message each.
 * - RM-3 Of the messages of one sender and priority that may go, the one that arrived first goes first.
 * - RM-4 Messages of one sender and ordering key leave in the order of their arrival, whatever their priorities, and the
 *   next one not before the one before it is settled: competing instances cannot overtake each other.
 * - RM-5 `hasRoom` says whether a message is within the bounds, those on their way into the mailbox (`expect`) included.
 *   What was expected, and what comes back (`putBack`, `postpone`, bounded by what sessions may hold), is always taken.
 * - RM-6 Nothing is kept for a sender or key that has nothing here and nothing unsettled.
 * - RM-7 A message that is `schedule`d has no place in the order yet: it takes the last one when it is due (`arrive`).
 * - RM-8 What was sent for later has room in half of the bounds, and each sender its fair share of that: its recipient cannot
 *   take it out before it is due, and must not be kept from all others by it.
 */
export class RecipientMailbox {
	readonly #bounds: MailboxBounds;
	readonly #rotations = PRIORITY_WEIGHTS.map(() => new SenderRotation());
	readonly #turns: number[] = [...PRIORITY_WEIGHTS];
	readonly #lanes = new Map<string, Lane>();
	/** Held back for a delay. */
	readonly #postponed = new Set<QueuedMessage>();
	/** Not due yet. */
	readonly #scheduled = new Set<QueuedMessage>();
	/** RM-8. What was sent for later and is not due, and what is on its way here. */
	readonly #later: FairShares;
	readonly #laterBytes: FairShares;
	#expected = 0;
	#expectedBytes = 0;
	#arrivals = 0;
	#size = 0;
	#bytes = 0;

	constructor(bounds: MailboxBounds = DEFAULT_MAILBOX_BOUNDS) {
		this.#bounds = bounds;
		this.#later = new FairShares(bounds.maxMessages / 2);
		this.#laterBytes = new FairShares(bounds.maxBytes / 2);
	}

	/** Messages waiting, those held back included. */
	get size(): number {
		return this.#size;
	}

	/** Their bytes, as `messageCost` counts them. */
	get bytes(): number {
		return this.#bytes;
	}

	/** Senders and ordering keys that the mailbox remembers. */
	get remembered(): { readonly senders: number; readonly orderingKeys: number } {
		const senders = this.#rotations.reduce((sum, rotation) => sum + rotation.senders, 0);
		return { senders, orderingKeys: this.#lanes.size };
	}

	/** RM-8. Whether a message that is sent for later may come. */
	hasRoomForLater(message: QueuedMessage): boolean {
		if (!isForLater(message)) return true;
		return this.#later.hasRoom(message.source, 1) && this.#laterBytes.hasRoom(message.source, messageCost(message));
	}

	/** RM-5. A message larger than the bound by bytes has room in an empty mailbox. */
	hasRoom(message: QueuedMessage): boolean {
		const { maxMessages, maxBytes } = this.#bounds;
		const size = this.#size + this.#expected;
		if (size >= maxMessages) return false;
		return size === 0 || this.#bytes + this.#expectedBytes + messageCost(message) <= maxBytes;
	}

	/** RM-5. Keeps room for a message that is being stored, until it comes or is given up (`isExpected` false). */
	expect(message: QueuedMessage, isExpected: boolean): void {
		this.#expected += isExpected ? 1 : -1;
		this.#expectedBytes += isExpected ? messageCost(message) : -messageCost(message);
		if (isForLater(message)) this.#countLater(message, isExpected);
	}

	/** Takes a message in, as the last one. */
	add(message: QueuedMessage): void {
		this.#count(message);
		this.#enter(message);
	}

	/** RM-7. */
	schedule(message: QueuedMessage): void {
		this.#count(message);
		this.#scheduled.add(message);
		this.#countLater(message, true);
	}

	/** RM-7. Harmless for one that is no longer scheduled. */
	arrive(message: QueuedMessage): void {
		if (this.#unschedule(message)) this.#enter(message);
	}

	/** Holds a waiting message back until `resume`. False: it does not stand where it could go next anyway. */
	holdBack(message: QueuedMessage): boolean {
		if (message.place !== "waiting" || this.#postponed.has(message) || this.#scheduled.has(message)) return false;
		if (message.orderingKey !== "" && this.#lanes.get(laneKey(message))?.head !== message) return false;
		this.#rotationOf(message).remove(message);
		this.#postponed.add(message);
		return true;
	}

	/** RM-1 to RM-4. The next message; it counts as delivered until `release`, `putBack` or `postpone`. */
	take(): QueuedMessage | undefined {
		const message = this.#next();
		if (message === undefined) return undefined;
		this.#discount(message);
		message.place = "delivered";
		return message;
	}

	/** A delivered message is settled for good; the next of its ordering key may go. */
	release(message: QueuedMessage): void {
		message.place = "gone";
		this.#advance(message);
	}

	/** A delivered message goes back to its old place in the order. */
	putBack(message: QueuedMessage): void {
		this.#count(message);
		this.#rotationOf(message).add(message);
	}

	/** A delivered message comes back and is held back until `resume`. */
	postpone(message: QueuedMessage): void {
		this.#count(message);
		this.#postponed.add(message);
	}

	/** The delay of a message is over. Harmless for one that is no longer held back. */
	resume(message: QueuedMessage): void {
		if (this.#postponed.delete(message)) this.#rotationOf(message).add(message);
	}

	/** Takes a waiting message out. False: it is not waiting here. */
	remove(message: QueuedMessage): boolean {
		if (message.place !== "waiting") return false;
		this.#discount(message);
		message.place = "gone";
		if (this.#unschedule(message)) return true;
		const lane = message.orderingKey === "" ? undefined : this.#lanes.get(laneKey(message));
		if (lane !== undefined && lane.head !== message) {
			lane.behind.remove(message);
			return true;
		}
		// First the one behind it, so that a sender who still has something to deliver keeps its turn.
		this.#advance(message);
		if (!this.#postponed.delete(message)) this.#rotationOf(message).remove(message);
		return true;
	}

	/** Everything that waits, in no order. The mailbox must not change meanwhile. */
	*waiting(): Generator<QueuedMessage, void, undefined> {
		yield* this.#scheduled;
		yield* this.#postponed;
		for (const rotation of this.#rotations) yield* rotation.messages();
		for (const lane of this.#lanes.values()) yield* lane.behind;
	}

	#next(): QueuedMessage | undefined {
		let waiting = false;
		for (let round = 0; round < 2; round++) {
			for (let priority = 0; priority < PRIORITY_WEIGHTS.length; priority++) {
				const rotation = this.#rotations[priority]!;
				if (rotation.isEmpty) continue;
				waiting = true;
				if (this.#turns[priority]! === 0) continue;
				this.#turns[priority]!--;
				return rotation.take();
			}
			if (!waiting) return undefined;
			for (let priority = 0; priority < PRIORITY_WEIGHTS.length; priority++) {
				this.#turns[priority] = PRIORITY_WEIGHTS[priority]!;
			}
		}
		return undefined;
	}

	#enter(message: QueuedMessage): void {
		message.sequence = ++this.#arrivals;
		if (message.orderingKey === "") {
			this.#rotationOf(message).add(message);
			return;
		}
		const key = laneKey(message);
		const lane = this.#lanes.get(key);
		if (lane === undefined) {
			this.#lanes.set(key, { head: message, behind: new LinkedList() });
			this.#rotationOf(message).add(message);
		} else {
			lane.behind.append(message);
		}
	}

	/** RM-4: the head of a lane has left it. */
	#advance(left: QueuedMessage): void {
		if (left.orderingKey === "") return;
		const key = laneKey(left);
		const lane = this.#lanes.get(key);
		if (lane === undefined || lane.head !== left) return;
		const next = lane.behind.first;
		if (next === undefined) {
			this.#lanes.delete(key);
			return;
		}
		lane.behind.remove(next);
		lane.head = next;
		this.#rotationOf(next).add(next);
	}

	#unschedule(message: QueuedMessage): boolean {
		if (!this.#scheduled.delete(message)) return false;
		this.#countLater(message, false);
		return true;
	}

	#countLater(message: QueuedMessage, isHere: boolean): void {
		const { source } = message;
		if (isHere) {
			this.#later.take(source, 1);
			this.#laterBytes.take(source, messageCost(message));
		} else {
			this.#later.giveBack(source, 1);
			this.#laterBytes.giveBack(source, messageCost(message));
		}
	}

	#rotationOf(message: QueuedMessage): SenderRotation {
		return this.#rotations[message.priority]!;
	}

	#count(message: QueuedMessage): void {
		message.place = "waiting";
		this.#size++;
		this.#bytes += messageCost(message);
	}

	#discount(message: QueuedMessage): void {
		this.#size--;
		this.#bytes -= messageCost(message);
	}
}

/** A plugin id has no line break, so no two pairs share a key. */
function laneKey(message: QueuedMessage): string {
	return `${message.source}\n${message.orderingKey}`;
}
