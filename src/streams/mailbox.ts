/** What became of an item that was offered to a mailbox. */
export type PushOutcome = "queued" | "full" | "closed";

export interface MailboxOptions<T> {
	/** The most items that may wait. */
	readonly maxItems: number;
	/** The most bytes that may wait, as `sizeOf` counts them. Default: no bound by bytes. */
	readonly maxBytes?: number;
	/** Bytes an item stands for. Default 0. */
	readonly sizeOf?: (item: T) => number;
}

/**
 * The one bounded queue of the hub: many writers, one reader.
 *
 * - MB-1 An item that is not `queued` was not taken; the writer decides what that means.
 * - MB-2 Items leave in the order they were queued.
 * - MB-3 `close()` lets the reader drain what is queued and then ends it; `close(error)` drops what is queued and fails
 *   the reader with the error. The first close wins.
 * - MB-4 A waiting reader wakes on an item, on close, and on its signal.
 */
export class Mailbox<T> implements AsyncIterable<T> {
	readonly #options: Required<MailboxOptions<T>>;
	#items: T[] = [];
	#head = 0;
	#bytes = 0;
	#closed = false;
	#error: unknown;
	#wake: (() => void) | undefined;

	constructor(options: MailboxOptions<T>) {
		this.#options = { maxBytes: Number.POSITIVE_INFINITY, sizeOf: () => 0, ...options };
	}

	/** Items waiting. */
	get size(): number {
		return this.#items.length - this.#head;
	}

	/** Bytes waiting. */
	get bytes(): number {
		return this.#bytes;
	}

	get closed(): boolean {
		return this.#closed;
	}

	/** MB-1. An item larger than `maxBytes` is still taken when nothing else waits, so that it cannot block for ever. */
	push(item: T): PushOutcome {
		if (this.#closed) return "closed";
		const size = this.#options.sizeOf(item);
		if (this.size >= this.#options.maxItems) return "full";
		if (this.size > 0 && this.#bytes + size > this.#options.maxBytes) return "full";
		this.#items.push(item);
		this.#bytes += size;
		this.#notify();
		return "queued";
	}

	/** The oldest item, left in place. */
	peek(): T | undefined {
		return this.#items[this.#head];
	}

	/** Takes at most `max` items that are waiting now. Throws the close error, if there is one. */
	take(max: number = Number.POSITIVE_INFINITY): T[] {
		if (this.#error !== undefined) throw this.#error;
		const count = Math.min(max, this.size);
		if (count === 0) return [];
		let taken: T[];
		if (count === this.#items.length) {
			taken = this.#items;
			this.#items = [];
			this.#head = 0;
		} else {
			taken = this.#items.slice(this.#head, this.#head + count);
			// Their places go later; what was taken must not be kept until then.
			this.#items.fill(undefined as T, this.#head, this.#head + count);
			this.#head += count;
			if (this.#head > 1024 && this.#head * 2 > this.#items.length) {
				this.#items = this.#items.slice(this.#head);
				this.#head = 0;
			}
		}
		if (this.size === 0) {
			this.#items = [];
			this.#head = 0;
			this.#bytes = 0;
		} else {
			for (const item of taken) this.#bytes -= this.#options.sizeOf(item);
		}
		return taken;
	}

	/** Drops everything that waits and says how many items that was. */
	clear(): number {
		const dropped = this.size;
		this.#items = [];
		this.#head = 0;
		this.#bytes = 0;
		return dropped;
	}

	/** MB-3. */
	close(error?: unknown): void {
		if (this.#closed) return;
		this.#closed = true;
		if (error !== undefined) {
			this.#error = error;
			this.clear();
		}
		this.#notify();
	}

	/**
	 * MB-4. True once something waits; false when the mailbox is closed and empty, or `signal` aborted. Rejects with the
	 * close error. One waiter at a time.
	 */
	async wait(signal?: AbortSignal): Promise<boolean> {
		while (true) {
			if (this.#error !== undefined) throw this.#error;
			if (this.size > 0) return true;
			if (this.#closed || signal?.aborted) return false;
			if (this.#wake) throw new Error("a mailbox has one reader");
			await new Promise<void>((resolve) => {
				const done = () => {
					signal?.removeEventListener("abort", done);
					this.#wake = undefined;
					resolve();
				};
				this.#wake = done;
				signal?.addEventListener("abort", done, { once: true });
			});
		}
	}

	async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
		while (await this.wait()) yield* this.take();
	}

	#notify(): void {
		this.#wake?.();
	}
}
