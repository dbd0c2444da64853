import type { StoredRecord } from "./log-store.ts";

type Listener = (batch: readonly StoredRecord[]) => void;

/** LOG-4: who hears of flushed batches. A batch offered by a listener waits until the one in hand went to everyone. */
export class TailListeners {
	readonly #listeners = new Set<{ readonly hear: Listener }>();
	readonly #waiting: (readonly StoredRecord[])[] = [];
	#offering = false;

	get size(): number {
		return this.#listeners.size;
	}

	add(hear: Listener): Disposable {
		const listener = { hear };
		this.#listeners.add(listener);
		return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
	}

	offer(batch: readonly StoredRecord[]): void {
		if (batch.length === 0 || this.#listeners.size === 0) return;
		this.#waiting.push(batch);
		if (this.#offering) return;
		this.#offering = true;
		try {
			for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
				for (const listener of [...this.#listeners]) listener.hear(next);
			}
		} finally {
			this.#offering = false;
		}
	}

	clear(): void {
		this.#listeners.clear();
	}
}
