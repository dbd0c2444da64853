import type { Clock } from "../clock/clock.ts";

/** Waits. Ends early, without an error, when the signal aborts. */
export function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
	return new Promise((resolve) => {
		if (signal.aborted) return resolve();
		const done = () => {
			timer.cancel();
			signal.removeEventListener("abort", done);
			resolve();
		};
		const timer = clock.after(ms, done);
		signal.addEventListener("abort", done, { once: true });
	});
}
