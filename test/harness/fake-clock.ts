import type { Clock, IdSource, Timer } from "../../src/clock/clock.ts";

interface Scheduled {
	due: number;
	readonly order: number;
	readonly everyMs: number | undefined;
	readonly run: () => void;
}

/**
 * A clock that stands still until it is told to move.
 *
 * `advance` runs what falls due in the order of its due time (then of its start), each at its own time, and lets every
 * promise settle in between, so that work which a timer started is done, and the timers which that work starts run too
 * if they fall due in the same advance.
 */
export class FakeClock implements Clock {
	#wall: number;
	#monotonic = 0;
	#order = 0;
	readonly #timers = new Set<Scheduled>();

	/** `now` is where the wall clock starts; `monotonic` starts at 0. */
	constructor(now: number = Date.UTC(2030, 0, 1)) {
		this.#wall = now;
	}

	now(): number {
		return this.#wall;
	}

	monotonic(): number {
		return this.#monotonic;
	}

	after(ms: number, run: () => void): Timer {
		return this.#schedule(Math.max(ms, 0), undefined, run);
	}

	every(ms: number, run: () => void): Timer {
		const everyMs = Math.max(ms, 1);
		return this.#schedule(everyMs, everyMs, run);
	}

	/** Timers that would still run. Zero after a clean shutdown. */
	get pendingTimers(): number {
		return this.#timers.size;
	}

	/** Moves both clocks on by `ms`, running what falls due. Rejects with what a timer throws. */
	async advance(ms: number): Promise<void> {
		const end = this.#monotonic + ms;
		await settle();
		for (let next = this.#next(end); next !== undefined; next = this.#next(end)) {
			this.#move(next.due);
			if (next.everyMs === undefined) this.#timers.delete(next);
			else next.due += next.everyMs;
			next.run();
			await settle();
		}
		this.#move(end);
	}

	/** Steps the wall clock alone, forwards or backwards, as a time service may. Runs nothing. */
	stepWall(ms: number): void {
		this.#wall += ms;
	}

	#schedule(ms: number, everyMs: number | undefined, run: () => void): Timer {
		const scheduled: Scheduled = { due: this.#monotonic + ms, order: this.#order++, everyMs, run };
		this.#timers.add(scheduled);
		return { cancel: () => void this.#timers.delete(scheduled) };
	}

	#next(end: number): Scheduled | undefined {
		let next: Scheduled | undefined;
		for (const timer of this.#timers) {
			if (timer.due > end) continue;
			if (next === undefined || timer.due < next.due || (timer.due === next.due && timer.order < next.order))
				next = timer;
		}
		return next;
	}

	#move(to: number): void {
		this.#wall += to - this.#monotonic;
		this.#monotonic = to;
	}
}

/** Lets every promise that can settle do so, however long the chain. */
function settle(): Promise<void> {
	return new Promise((resolve) => setImmediate(resolve));
}

/** Ids that a test can name: `id-1`, `id-2`, ... */
export class SequentialIds implements IdSource {
	#last = 0;
	readonly #prefix: string;

	constructor(prefix: string = "id-") {
		this.#prefix = prefix;
	}

	next(): string {
		return `${this.#prefix}${++this.#last}`;
	}
}
