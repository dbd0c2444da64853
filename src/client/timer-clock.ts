import type { Clock } from "../clock/clock.ts";

const MAX_TIMEOUT_MS = 2 ** 31 - 1;

/**
 * The machine's clock in any JavaScript runtime. Its timers keep the process alive: a program that waits to reconnect
 * is not done.
 */
export const timerClock: Clock = {
	now: () => Date.now(),
	monotonic: () => performance.now(),
	after(ms, run) {
		const handle = setTimeout(run, Math.min(Math.max(ms, 0), MAX_TIMEOUT_MS));
		return { cancel: () => clearTimeout(handle) };
	},
	every(ms, run) {
		const handle = setInterval(run, Math.min(Math.max(ms, 1), MAX_TIMEOUT_MS));
		return { cancel: () => clearInterval(handle) };
	},
};
