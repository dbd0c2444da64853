import type { Clock, Timer } from "../clock/clock.ts";
import type { StoredBlock } from "./queued-message.ts";

/** How long a block may be sparse at least before it is written anew, in milliseconds; at most twice as long. */
const DEFAULT_PATIENCE_MS = 5000;

/** A block with so many bytes is not worth it. */
const SMALL_BYTES = 4096;

/** A block is sparse where less than one in so many bytes is left. */
const SPARSE = 4;

/**
 * The blocks that are kept for few of their messages: what waits long must not hold on to the room of what was settled
 * beside it. Of a block that stays sparse what is left is written anew; where messages are settled in order, none does.
 */
export class SparseBlocks implements Disposable {
	readonly #clock: Clock;
	readonly #patienceMs: number;
	readonly #blocks = new Map<StoredBlock, (block: StoredBlock) => void>();
	/** Those that were sparse at the last look. */
	#known = new Set<StoredBlock>();
	#timer: Timer | undefined;
	#disposed = false;

	constructor(clock: Clock, patienceMs: number = DEFAULT_PATIENCE_MS) {
		this.#clock = clock;
		this.#patienceMs = patienceMs;
	}

	/** To be told after messages of a block are settled, or it was loaded. `rewrite` runs where it stays as it is. */
	watch(block: StoredBlock, rewrite: (block: StoredBlock) => void): void {
		if (this.#disposed || !isSparse(block)) return;
		this.#blocks.set(block, rewrite);
		this.#timer ??= this.#clock.after(this.#patienceMs, () => this.#look());
	}

	/** It is no longer there. */
	forget(block: StoredBlock): void {
		this.#blocks.delete(block);
		this.#known.delete(block);
	}

	[Symbol.dispose](): void {
		this.#disposed = true;
		this.#timer?.cancel();
		this.#timer = undefined;
	}

	#look(): void {
		this.#timer = undefined;
		const due = [...this.#blocks].filter(([block]) => this.#known.has(block));
		for (const [block] of due) this.#blocks.delete(block);
		this.#known = new Set(this.#blocks.keys());
		for (const [block, rewrite] of due) rewrite(block);
		if (this.#blocks.size > 0) this.#timer ??= this.#clock.after(this.#patienceMs, () => this.#look());
	}
}

/** Whether what is left of a block should be written anew if it stays so. */
export function isSparse(block: StoredBlock): boolean {
	return block.left > 0 && block.bytes > SMALL_BYTES && block.leftBytes * SPARSE < block.bytes;
}
