import type { Clock } from "../clock/clock.ts";

/** Denials of one actor that are recorded each within a second. */
const RECORDED_PER_SECOND = 100;

/** Actors counted at once; beyond that all share one budget. */
const MAX_ACTORS = 4096;

const WINDOW_MS = 1000;

/** How many denials of an actor were not recorded one by one. */
export type Surplus = ReadonlyMap<string, number>;

/**
 * Keeps one actor that is refused all the time from filling the log of denials: what goes beyond its budget within a
 * second is counted.
 */
export class DenialBudget {
	readonly #clock: Clock;
	readonly #used = new Map<string, number>();
	#windowStart = Number.NEGATIVE_INFINITY;

	constructor(clock: Clock) {
		this.#clock = clock;
	}

	/** Whether the second that the counts are of is over: then `surplus` is due. */
	get windowIsOver(): boolean {
		return this.#clock.monotonic() - this.#windowStart >= WINDOW_MS;
	}

	/** Whether another denial of the actor is to be recorded. */
	admit(actor: string): boolean {
		if (this.#used.size === 0) this.#windowStart = this.#clock.monotonic();
		const counted = this.#used.has(actor) || this.#used.size < MAX_ACTORS ? actor : "others";
		const used = (this.#used.get(counted) ?? 0) + 1;
		this.#used.set(counted, used);
		return used <= RECORDED_PER_SECOND;
	}

	/** Ends the second: what was not admitted in it, by actor. */
	endWindow(): Surplus {
		const surplus = new Map<string, number>();
		for (const [actor, used] of this.#used) {
			if (used > RECORDED_PER_SECOND) surplus.set(actor, used - RECORDED_PER_SECOND);
		}
		this.#used.clear();
		return surplus;
	}
}
