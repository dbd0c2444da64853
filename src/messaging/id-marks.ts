import type { Clock, Timer } from "../clock/clock.ts";
import type { CommitQueue } from "../state/commit-queue.ts";
import type { KvWrite } from "../state/kv-store.ts";
import { Mailbox } from "../streams/mailbox.ts";
import type { IdBatch } from "./id-batch.ts";

/** Marks that are forgotten together. */
const PURGE_MARKS = 500;

/** Those of one sender, the oldest first. */
interface SenderMarks {
	readonly batches: Mailbox<IdBatch>;
	size: number;
}

/** Times within a window that is looked for what is due, at most. */
const LOOKS = 128;

/**
 * The ids of settled messages, which are forgotten when their time is over. Of each sender in the order in which they came:
 * one waits for those before it, at most for one window more. Bounded: where there are too many, the oldest of the sender
 * that has most go before their time, so that a flood of one ends the window of no other.
 */
export class IdMarks implements Disposable {
	readonly #clock: Clock;
	readonly #queue: CommitQueue;
	readonly #max: number;
	/** How long an id is known after its message was accepted, in milliseconds. */
	readonly #windowMs: number;
	readonly #bySender = new Map<string, SenderMarks>();
	#size = 0;
	#timer: Timer | undefined;
	#disposed = false;

	constructor(options: {
		readonly clock: Clock;
		readonly queue: CommitQueue;
		readonly max: number;
		readonly windowMs: number;
	}) {
		this.#clock = options.clock;
		this.#queue = options.queue;
		this.#max = options.max;
		this.#windowMs = options.windowMs;
	}

	get size(): number {
		return this.#size;
	}

	/** They are stored already. */
	add(batch: IdBatch): void {
		if (this.#disposed) return;
		let marks = this.#bySender.get(batch.source);
		if (marks === undefined) {
			marks = { batches: new Mailbox({ maxItems: Number.POSITIVE_INFINITY }), size: 0 };
			this.#bySender.set(batch.source, marks);
		}
		marks.batches.push(batch);
		marks.size += batch.size;
		this.#size += batch.size;
		// Not one by one, so that a full window costs one commit for many marks.
		while (this.#size > this.#max + PURGE_MARKS) this.#makeRoom();
		this.#arm();
	}

	[Symbol.dispose](): void {
		this.#disposed = true;
		this.#timer?.cancel();
		this.#timer = undefined;
	}

	#arm(): void {
		if (this.#size === 0 || this.#timer !== undefined) return;
		let first = Number.POSITIVE_INFINITY;
		for (const marks of this.#bySender.values()) first = Math.min(first, this.#end(marks));
		// Not for each, as it is looked at what all senders have.
		const wait = Math.max(1, first - this.#clock.now(), this.#windowMs / LOOKS);
		this.#timer = this.#clock.after(wait, () => {
			this.#timer = undefined;
			this.#purgeDue();
			this.#arm();
		});
	}

	#purgeDue(): void {
		const now = this.#clock.now();
		for (const [sender, marks] of this.#bySender) {
			while (this.#end(marks) <= now) this.#delete(marks, PURGE_MARKS, now);
			if (marks.size === 0) this.#bySender.delete(sender);
		}
	}

	/** When the oldest mark of a sender is over. */
	#end({ batches }: SenderMarks): number {
		return (batches.peek()?.acceptTime ?? Number.POSITIVE_INFINITY) + this.#windowMs;
	}

	#makeRoom(): void {
		let most: SenderMarks | undefined;
		for (const marks of this.#bySender.values()) if (marks.size > (most?.size ?? 0)) most = marks;
		// At most half of what it has: the newest may be of use yet.
		if (most !== undefined) this.#delete(most, Math.min(PURGE_MARKS, Math.ceil(most.size / 2)));
	}

	/** At most `count`, of those that are over by `now`. What cannot be deleted now is found again, and out of date, at the next start. */
	#delete(marks: SenderMarks, count: number, now: number = Number.POSITIVE_INFINITY): void {
		const writes: KvWrite[] = [];
		let deleted = 0;
		for (; deleted < count && this.#end(marks) <= now; deleted++) {
			const batch = marks.batches.peek()!;
			const key = batch.forget();
			if (key !== undefined) writes.push({ key, delete: true });
			if (batch.size === 0) marks.batches.take(1);
		}
		marks.size -= deleted;
		this.#size -= deleted;
		if (writes.length > 0) this.#queue.add(writes, () => {});
	}
}
