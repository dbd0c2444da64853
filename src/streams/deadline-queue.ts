import type { Clock, Timer } from "../clock/clock.ts";

/** Something that is due at a time. Held by at most one `DeadlineQueue`. */
export interface Deadline {
	/** `Clock.monotonic()` milliseconds. */
	readonly at: number;
	/** Runs once, unless it was removed. Must not throw. */
	run(): void;
	/** The queue's own; -1 while it is in none. */
	slot: number;
}

/**
 * Many deadlines on one timer. Adding and removing cost O(log n) of those that are waiting, and nothing stays behind of
 * one that was removed: a request that is answered at once must not be remembered until its timeout.
 */
export class DeadlineQueue implements Disposable {
	readonly #clock: Clock;
	readonly #heap: Deadline[] = [];
	#timer: Timer | undefined;
	#timerAt = Number.POSITIVE_INFINITY;
	#disposed = false;

	constructor(clock: Clock) {
		this.#clock = clock;
	}

	get size(): number {
		return this.#heap.length;
	}

	add(deadline: Deadline): void {
		if (this.#disposed) return;
		this.#heap.push(deadline);
		this.#rise(deadline, this.#heap.length - 1);
		this.#arm();
	}

	/** Harmless for one that has run or was never added. */
	remove(deadline: Deadline): void {
		const slot = deadline.slot;
		if (slot < 0) return;
		deadline.slot = -1;
		const last = this.#heap.pop()!;
		if (last === deadline) return;
		// The hole is filled with the last one, which belongs above or below it.
		if (slot > 0 && last.at < this.#heap[(slot - 1) >> 1]!.at) this.#rise(last, slot);
		else this.#sink(last, slot);
	}

	/** Forgets every deadline without running it. */
	[Symbol.dispose](): void {
		this.#disposed = true;
		this.#timer?.cancel();
		this.#timer = undefined;
		for (const deadline of this.#heap) deadline.slot = -1;
		this.#heap.length = 0;
	}

	/** A timer that turns out to be early finds nothing due and is set again: cheaper than moving it with every removal. */
	#arm(): void {
		const first = this.#heap[0];
		if (first === undefined || first.at >= this.#timerAt) return;
		this.#timer?.cancel();
		this.#timerAt = first.at;
		this.#timer = this.#clock.after(first.at - this.#clock.monotonic(), () => this.#fire());
	}

	#fire(): void {
		this.#timer = undefined;
		this.#timerAt = Number.POSITIVE_INFINITY;
		const now = this.#clock.monotonic();
		for (let first = this.#heap[0]; first !== undefined && first.at <= now; first = this.#heap[0]) {
			this.remove(first);
			first.run();
		}
		this.#arm();
	}

	#rise(deadline: Deadline, from: number): void {
		let slot = from;
		while (slot > 0) {
			const above = (slot - 1) >> 1;
			const parent = this.#heap[above]!;
			if (parent.at <= deadline.at) break;
			this.#put(parent, slot);
			slot = above;
		}
		this.#put(deadline, slot);
	}

	#sink(deadline: Deadline, from: number): void {
		const heap = this.#heap;
		let slot = from;
		while (true) {
			let below = 2 * slot + 1;
			if (below >= heap.length) break;
			if (below + 1 < heap.length && heap[below + 1]!.at < heap[below]!.at) below++;
			if (heap[below]!.at >= deadline.at) break;
			this.#put(heap[below]!, slot);
			slot = below;
		}
		this.#put(deadline, slot);
	}

	#put(deadline: Deadline, slot: number): void {
		this.#heap[slot] = deadline;
		deadline.slot = slot;
	}
}
