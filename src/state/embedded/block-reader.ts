import type { LogBlocks } from "../log-page.ts";
import type { LogBounds } from "../log-store.ts";
import { Block } from "./block.ts";
import type { Environment } from "./environment.ts";
import { LAST_SEQUENCE, type LogKeys } from "./log-keys.ts";
import type { TopicIndex } from "./topic-index.ts";

/** Beyond so many exact topics the index is read no longer: every block is looked at instead. */
const MAX_INDEXED_TOPICS = 64;

/** Finds blocks for one page, within one turn, in one snapshot. */
export class BlockReader implements LogBlocks {
	readonly #environment: Environment;
	readonly #keys: LogKeys;
	readonly #index: TopicIndex;
	readonly #bounds: LogBounds;
	/** Blocks that the index named, nearest first, from `#at` on; complete up to the horizon. */
	#named: readonly number[] = [];
	#at = 0;
	#horizon: number | undefined;

	constructor(environment: Environment, keys: LogKeys, index: TopicIndex, bounds: LogBounds) {
		this.#environment = environment;
		this.#keys = keys;
		this.#index = index;
		this.#bounds = bounds;
	}

	bounds(): LogBounds {
		return this.#bounds;
	}

	find(sequence: number, direction: "forward" | "backward", exact?: readonly string[]): Block | undefined {
		if (exact === undefined || exact.length > MAX_INDEXED_TOPICS) return this.#load(this.#blockOf(sequence), false);
		const step = direction === "forward" ? 1 : -1;
		let from = this.#blockOf(sequence);
		while (from !== undefined && from >= this.#bounds.first) {
			const named = this.#next(from, direction, exact);
			const block = this.#load(named, true);
			if (block !== undefined || named === undefined) return block;
			from = named + step;
		}
		return undefined;
	}

	seek(time: number): number {
		let low = this.#bounds.first;
		let high = this.#bounds.next;
		while (low < high) {
			const block = this.#load(this.#blockOf(Math.floor((low + high) / 2)), true);
			if (block === undefined) break;
			if (block.time < time) low = block.first + block.count;
			else high = block.first;
		}
		return Math.min(low, this.#bounds.next);
	}

	/** The block that holds a sequence, valid until the database is read again. */
	holding(sequence: number): Block | undefined {
		const block = this.#load(this.#blockOf(sequence), true);
		return block !== undefined && sequence < block.first + block.count ? block : undefined;
	}

	/** A transient block lives in a buffer that the next read of the database uses again. */
	#load(first: number | undefined, transient: boolean): Block | undefined {
		if (first === undefined) return undefined;
		const { blocks } = this.#environment;
		const key = this.#keys.at(first);
		const bytes = transient ? blocks.getBinaryFast(key) : blocks.getBinary(key);
		if (bytes === undefined) return undefined;
		return new Block(Buffer.isBuffer(bytes) ? bytes : bufferOf(bytes), transient);
	}

	/** The first sequence of the block that holds `sequence`. */
	#blockOf(sequence: number): number | undefined {
		const range = { start: this.#keys.at(sequence), end: this.#keys.at(0), reverse: true, limit: 1 };
		for (const key of this.#environment.blocks.getKeys(range)) return this.#keys.sequenceOf(key);
		return undefined;
	}

	#next(from: number, direction: "forward" | "backward", exact: readonly string[]): number | undefined {
		const forward = direction === "forward";
		const end = forward ? LAST_SEQUENCE : 0;
		let start = from;
		while (true) {
			while (this.#at < this.#named.length) {
				const named = this.#named[this.#at]!;
				if (forward ? named >= from : named <= from) return named;
				this.#at++;
			}
			if (this.#horizon === end) return undefined;
			if (this.#horizon !== undefined) {
				start = forward ? Math.max(start, this.#horizon + 1) : Math.min(start, this.#horizon - 1);
			}
			const found = this.#index.blocks(exact, start, direction);
			this.#named = found.blocks;
			this.#horizon = found.horizon;
			this.#at = 0;
		}
	}
}

function bufferOf(bytes: Uint8Array): Buffer {
	return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}
