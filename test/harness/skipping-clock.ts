import type { Clock, Timer } from "../../src/clock/clock.ts";

interface Pending {
	due: number;
	readonly every: number | undefined;
	readonly run: () => void;
	handle: NodeJS.Timeout | undefined;
}

/** The machine's clock, which a test can put forward: what falls due by that runs at once. */
export class SkippingClock implements Clock {
	#skipped = 0;
	readonly #pending = new Set<Pending>();

	now(): number {
		return Date.now() + this.#skipped;
	}

	monotonic(): number {
		return performance.now() + this.#skipped;
	}

	after(ms: number, run: () => void): Timer {
		return this.#add(ms, undefined, run);
	}

	every(ms: number, run: () => void): Timer {
		return this.#add(ms, ms, run);
	}

	skip(ms: number): void {
		this.#skipped += ms;
		for (const pending of [...this.#pending]) {
			if (!this.#pending.has(pending)) continue;
			if (pending.due <= this.monotonic()) this.#fire(pending);
			else this.#arm(pending);
		}
	}

	#add(ms: number, every: number | undefined, run: () => void): Timer {
		const pending: Pending = { due: this.monotonic() + ms, every, run, handle: undefined };
		this.#pending.add(pending);
		this.#arm(pending);
		return {
			cancel: () => {
				this.#pending.delete(pending);
				clearTimeout(pending.handle);
			},
		};
	}

	#arm(pending: Pending): void {
		clearTimeout(pending.handle);
		const left = Math.min(Math.max(pending.due - this.monotonic(), 0), 2 ** 31 - 1);
		pending.handle = setTimeout(() => this.#fire(pending), left);
		pending.handle.unref();
	}

	#fire(pending: Pending): void {
		clearTimeout(pending.handle);
		if (pending.every === undefined) {
			this.#pending.delete(pending);
		} else {
			pending.due = this.monotonic() + pending.every;
			this.#arm(pending);
		}
		pending.run();
	}
}

/** Options for a hub whose clock is put forward: nothing but what the test is about may fall due. */
export const UNHURRIED = Object.freeze({
	leaseMs: 86_400_000,
	keepalive: { intervalMs: 86_400_000, timeoutMs: 86_400_000 },
});
