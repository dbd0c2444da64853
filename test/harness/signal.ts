/** Wakes every waiter of the hub whenever anything changes. */
export class Signal {
	#waiting = new Set<() => void>();
	raise(): void {
		for (const wake of [...this.#waiting]) wake();
	}
	wait(signal: AbortSignal): Promise<void> {
		return new Promise((resolve) => {
			const done = () => {
				this.#waiting.delete(done);
				signal.removeEventListener("abort", done);
				resolve();
			};
			if (signal.aborted) return resolve();
			this.#waiting.add(done);
			signal.addEventListener("abort", done, { once: true });
		});
	}
}
