import type { Clock, Timer } from "../clock/clock.ts";
import type { CommitQueue } from "../state/commit-queue.ts";
import type { KvWrite } from "../state/kv-store.ts";
import { Mailbox } from "../streams/mailbox.ts";
import type { KnownId } from "./known-ids.ts";

/** Marks that are forgotten together. */
const PURGE_MARKS = 500;

/**
 * The ids of settled messages, which are forgotten when their time is over. In the order in which they came: one waits for
 * those before it, at most for one window more. Bounded: where there are too many the oldest go before their time.
 */
export class IdMarks implements Disposable {
	readonly #clock: Clock;
	readonly #queue: CommitQueue;
	readonly #max: number;
	/** How long an id is known after its message was accepted, in milliseconds. */
	readonly #windowMs: number;
	readonly #marks = new Mailbox<KnownId>({ maxItems: Number.POSITIVE_INFINITY });
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
		return this.#marks.size;
	}

	/** It is stored already. */
	add(mark: KnownId): void {
		if (this.#disposed) return;
		this.#marks.push(mark);
		// Not one by one, so that a full window costs one commit for many marks.
		if (this.#marks.size > this.#max + PURGE_MARKS) this.#purge(PURGE_MARKS);
		this.#arm();
	}

	[Symbol.dispose](): void {
		this.#disposed = true;
		this.#timer?.cancel();
		this.#timer = undefined;
	}

	#arm(): void {
		const first = this.#marks.peek();
		if (first === undefined || this.#timer !== undefined) return;
		this.#timer = this.#clock.after(Math.max(1, this.#end(first) - this.#clock.now()), () => {
			this.#timer = undefined;
			this.#purgeDue();
			this.#arm();
		});
	}

	#purgeDue(): void {
		const now = this.#clock.now();
		while (this.#end(this.#marks.peek()) <= now) {
			const due: KnownId[] = [];
			while (due.length < PURGE_MARKS && this.#end(this.#marks.peek()) <= now) due.push(...this.#marks.take(1));
			this.#delete(due);
		}
	}

	#end(mark: KnownId | undefined): number {
		return mark === undefined ? Number.POSITIVE_INFINITY : mark.acceptTime + this.#windowMs;
	}

	#purge(count: number): void {
		this.#delete(this.#marks.take(count));
	}

	/** What cannot be deleted now is found again, and out of date, at the next start. */
	#delete(marks: readonly KnownId[]): void {
		const writes: KvWrite[] = [];
		for (const mark of marks) {
			const key = mark.forget();
			if (key !== undefined) writes.push({ key, delete: true });
		}
		if (writes.length > 0) this.#queue.add(writes, () => {});
	}
}
