import type { Clock, Timer } from "../clock/clock.ts";
import type { CommitQueue } from "../state/commit-queue.ts";
import { Mailbox } from "../streams/mailbox.ts";

/** That the id of a settled message is still to be known. */
export interface IdMark {
	/** Where it is stored. */
	readonly key: string;
	/** Milliseconds since the Unix epoch. */
	readonly until: number;
	/** It is to be known no longer. */
	forget(): void;
}

/** Marks that are deleted in one commit. */
const PURGE_MARKS = 500;

/**
 * The marks of settled messages, which are deleted when their time is over. In the order in which they came: a mark waits
 * for those before it, at most for one window more. Bounded: where there are too many the oldest go before their time.
 */
export class IdMarks implements Disposable {
	readonly #clock: Clock;
	readonly #queue: CommitQueue;
	readonly #max: number;
	readonly #marks = new Mailbox<IdMark>({ maxItems: Number.POSITIVE_INFINITY });
	#timer: Timer | undefined;
	#disposed = false;

	constructor(options: { readonly clock: Clock; readonly queue: CommitQueue; readonly max: number }) {
		this.#clock = options.clock;
		this.#queue = options.queue;
		this.#max = options.max;
	}

	get size(): number {
		return this.#marks.size;
	}

	/** It is stored already. */
	add(mark: IdMark): void {
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
		this.#timer = this.#clock.after(Math.max(1, first.until - this.#clock.now()), () => {
			this.#timer = undefined;
			this.#purgeDue();
			this.#arm();
		});
	}

	#purgeDue(): void {
		const now = this.#clock.now();
		while ((this.#marks.peek()?.until ?? Number.POSITIVE_INFINITY) <= now) {
			const due: IdMark[] = [];
			while (due.length < PURGE_MARKS && (this.#marks.peek()?.until ?? Number.POSITIVE_INFINITY) <= now) {
				due.push(...this.#marks.take(1));
			}
			this.#delete(due);
		}
	}

	#purge(count: number): void {
		this.#delete(this.#marks.take(count));
	}

	/** What cannot be deleted now is found again, and out of date, at the next start. */
	#delete(marks: readonly IdMark[]): void {
		for (const mark of marks) mark.forget();
		this.#queue.add(
			marks.map(({ key }) => ({ key, delete: true })),
			() => {},
		);
	}
}
