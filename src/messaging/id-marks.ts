import type { Clock, Timer } from "../clock/clock.ts";
import type { CommitQueue } from "../state/commit-queue.ts";
import type { KvWrite } from "../state/kv-store.ts";
import { Mailbox } from "../streams/mailbox.ts";
import type { KnownId } from "./known-ids.ts";

/** Marks that are forgotten together. */
const PURGE_MARKS = 500;

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
	readonly #bySender = new Map<string, Mailbox<KnownId>>();
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

	/** It is stored already. */
	add(mark: KnownId): void {
		if (this.#disposed) return;
		let marks = this.#bySender.get(mark.source);
		if (marks === undefined) {
			marks = new Mailbox({ maxItems: Number.POSITIVE_INFINITY });
			this.#bySender.set(mark.source, marks);
		}
		marks.push(mark);
		this.#size++;
		// Not one by one, so that a full window costs one commit for many marks.
		if (this.#size > this.#max + PURGE_MARKS) this.#makeRoom();
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
		for (const marks of this.#bySender.values()) first = Math.min(first, this.#end(marks.peek()));
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
		let due: KnownId[] = [];
		for (const [sender, marks] of this.#bySender) {
			while (this.#end(marks.peek()) <= now) {
				due.push(...marks.take(1));
				if (due.length < PURGE_MARKS) continue;
				this.#delete(due);
				due = [];
			}
			if (marks.size === 0) this.#bySender.delete(sender);
		}
		this.#delete(due);
	}

	#end(mark: KnownId | undefined): number {
		return mark === undefined ? Number.POSITIVE_INFINITY : mark.acceptTime + this.#windowMs;
	}

	#makeRoom(): void {
		let most: Mailbox<KnownId> | undefined;
		for (const marks of this.#bySender.values()) if (marks.size > (most?.size ?? 0)) most = marks;
		// At most half of what it has: the newest may be of use yet.
		if (most !== undefined) this.#delete(most.take(Math.min(PURGE_MARKS, Math.ceil(most.size / 2))));
	}

	/** What cannot be deleted now is found again, and out of date, at the next start. */
	#delete(marks: readonly KnownId[]): void {
		this.#size -= marks.length;
		const writes: KvWrite[] = [];
		for (const mark of marks) {
			const key = mark.forget();
			if (key !== undefined) writes.push({ key, delete: true });
		}
		if (writes.length > 0) this.#queue.add(writes, () => {});
	}
}
