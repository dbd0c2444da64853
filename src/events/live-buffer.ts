import { Mailbox } from "../streams/mailbox.ts";
import type { Run } from "./batch-builder.ts";
import type { EventBlock } from "./event-block.ts";
import type { Recipient } from "./tail-pump.ts";

export interface LiveBufferOptions {
	readonly priority: number;
	/** Runs of events that may wait. */
	readonly maxRuns: number;
	/** Bytes that may wait. A run keeps its whole block in memory, so an eighth of the block is added to its own size. */
	readonly maxBytes: number;
	/** Told once for each overflow; the buffer is empty then and takes nothing until `reopen`. */
	readonly onOverflow: () => void;
}

/** What the pump hands a subscription and its reader has not taken yet. */
export class LiveBuffer implements Recipient {
	readonly priority: number;
	readonly #mailbox: Mailbox<Run | "nudge">;
	readonly #onOverflow: () => void;
	#block: EventBlock | undefined;
	#from = 0;
	#to = 0;
	#collected: Run[] = [];
	#open = false;

	constructor(options: LiveBufferOptions) {
		this.priority = options.priority;
		this.#onOverflow = options.onOverflow;
		this.#mailbox = new Mailbox({
			maxItems: options.maxRuns,
			maxBytes: options.maxBytes,
			sizeOf: (item) => (item === "nudge" ? 0 : item.block.sizeOf(item.from, item.to) + (item.block.byteLength >>> 3)),
		});
	}

	get isEmpty(): boolean {
		return this.#mailbox.size === 0;
	}

	/** Takes events again, from the next one that the pump dispatches. */
	reopen(): void {
		this.#mailbox.clear();
		this.#open = true;
	}

	collect(block: EventBlock, index: number): boolean {
		if (!this.#open) return false;
		const isFirst = this.#block === undefined;
		if (this.#block === block && this.#to === index) {
			this.#to++;
			return false;
		}
		this.#close();
		this.#block = block;
		this.#from = index;
		this.#to = index + 1;
		return isFirst;
	}

	flush(): void {
		this.#close();
		const runs = this.#collected;
		this.#collected = [];
		for (const run of runs) {
			if (this.#mailbox.push(run) !== "full") continue;
			this.#open = false;
			this.#mailbox.clear();
			this.#onOverflow();
			this.nudge();
			return;
		}
	}

	/** Wakes the reader though nothing came. */
	nudge(): void {
		this.#mailbox.push("nudge");
	}

	/** The oldest run; undefined where none waits. Throws the error that the buffer was ended with. */
	take(): Run | undefined {
		for (;;) {
			const [item] = this.#mailbox.take(1);
			if (item !== "nudge") return item;
		}
	}

	/** Resolves when something waits or a nudge came; rejects with the error that the buffer was ended with. */
	async wait(): Promise<void> {
		await this.#mailbox.wait();
	}

	/** Drops everything and fails the reader. */
	end(error: unknown): void {
		this.#open = false;
		this.#mailbox.close(error);
	}

	#close(): void {
		if (this.#block === undefined) return;
		this.#collected.push({ block: this.#block, from: this.#from, to: this.#to });
		this.#block = undefined;
	}
}
