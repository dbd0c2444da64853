/** Something that can be cancelled once; cancelling twice is harmless. */
export interface Timer {
	cancel(): void;
}

/**
 * The only source of time and timers for the subsystems, so that a test can hold the clock in its hand.
 * Every timer is owned by whoever started it and cancelled on disposal.
 */
export interface Clock {
	/** Wall-clock milliseconds since the Unix epoch. May step backwards. */
	now(): number;
	/** Monotonic milliseconds, for durations and deadlines. */
	monotonic(): number;
	/** Runs `run` once after `ms` milliseconds (clamped to what a timer can hold, about 24.8 days). */
	after(ms: number, run: () => void): Timer;
	/** Runs `run` every `ms` milliseconds until cancelled. */
	every(ms: number, run: () => void): Timer;
}

/** The source of unguessable ids. Injected so that a test can name them. */
export interface IdSource {
	/** A new id of at most 36 URL-safe characters, unique among all hubs. */
	next(): string;
}
