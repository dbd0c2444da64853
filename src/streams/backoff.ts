export interface BackoffOptions {
	/** The longest first wait, in milliseconds. More than 0. */
	readonly initialMs: number;
	/** No wait is longer, in milliseconds. At least `initialMs`. */
	readonly maxMs: number;
	/** How much longer the longest wait gets each time. More than 1; default 2. */
	readonly factor?: number;
	/** Uniform in [0, 1). */
	readonly random: () => number;
}

/**
 * How long to wait before the next attempt: anywhere between 0 and a ceiling that grows with each attempt, so that peers
 * who lost the same server do not return in step.
 */
export class Backoff {
	readonly #options: Required<BackoffOptions>;
	#attempts = 0;

	/** Throws a RangeError on options out of bounds. */
	constructor(options: BackoffOptions) {
		const { initialMs, maxMs, factor = 2, random } = options;
		if (!(initialMs > 0 && Number.isFinite(initialMs))) throw new RangeError("initialMs is more than 0");
		if (!(maxMs >= initialMs && Number.isFinite(maxMs))) throw new RangeError("maxMs is at least initialMs");
		if (!(factor > 1 && Number.isFinite(factor))) throw new RangeError("factor is more than 1");
		this.#options = { initialMs, maxMs, factor, random };
	}

	/** Waits given out since the last reset. */
	get attempts(): number {
		return this.#attempts;
	}

	/** The wait before the next attempt, in whole milliseconds, 0 to `maxMs`. */
	next(): number {
		const { initialMs, maxMs, factor, random } = this.#options;
		const ceiling = Math.min(maxMs, initialMs * factor ** this.#attempts);
		this.#attempts++;
		return Math.min(Math.floor(random() * (ceiling + 1)), Math.floor(ceiling));
	}

	/** After a success: the next wait is a first wait again. */
	reset(): void {
		this.#attempts = 0;
	}
}
