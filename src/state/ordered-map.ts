import { compareKeys } from "./key-order.ts";

const CHUNK = 256;

interface Keyed {
	readonly key: string;
}

/** A map in the order of its keys' UTF-8 bytes: sorted chunks of at most 512 items, found by binary search. */
export class OrderedMap<T extends Keyed> {
	/** Never an empty chunk, but for the only one. */
	readonly #chunks: T[][] = [[]];
	#size = 0;

	get size(): number {
		return this.#size;
	}

	get(key: string): T | undefined {
		const chunk = this.#chunks[this.#chunkOf(key)]!;
		const item = chunk[lowerBound(chunk, key)];
		return item?.key === key ? item : undefined;
	}

	set(item: T): void {
		const at = this.#chunkOf(item.key);
		const chunk = this.#chunks[at]!;
		const index = lowerBound(chunk, item.key);
		if (chunk[index]?.key === item.key) {
			chunk[index] = item;
			return;
		}
		chunk.splice(index, 0, item);
		this.#size++;
		if (chunk.length > CHUNK * 2) this.#chunks.splice(at + 1, 0, chunk.splice(CHUNK));
	}

	delete(key: string): boolean {
		const at = this.#chunkOf(key);
		const chunk = this.#chunks[at]!;
		const index = lowerBound(chunk, key);
		if (chunk[index]?.key !== key) return false;
		chunk.splice(index, 1);
		this.#size--;
		if (chunk.length === 0 && this.#chunks.length > 1) this.#chunks.splice(at, 1);
		return true;
	}

	/** Items with `start <= key < end`. The map must not change while it is iterated. */
	*range(start: string, end: string | undefined): Generator<T, void, undefined> {
		let at = this.#chunkOf(start);
		let index = lowerBound(this.#chunks[at]!, start);
		for (; at < this.#chunks.length; at++, index = 0) {
			const chunk = this.#chunks[at]!;
			for (; index < chunk.length; index++) {
				const item = chunk[index]!;
				if (end !== undefined && compareKeys(item.key, end) >= 0) return;
				yield item;
			}
		}
	}

	/** The same items from the last to the first. */
	*reverseRange(start: string, end: string | undefined): Generator<T, void, undefined> {
		let at = end === undefined ? this.#chunks.length - 1 : this.#chunkOf(end);
		let index = end === undefined ? this.#chunks[at]!.length : lowerBound(this.#chunks[at]!, end);
		while (true) {
			const chunk = this.#chunks[at]!;
			while (--index >= 0) {
				const item = chunk[index]!;
				if (compareKeys(item.key, start) < 0) return;
				yield item;
			}
			if (--at < 0) return;
			index = this.#chunks[at]!.length;
		}
	}

	/** The last chunk whose first key is not above `key`, or the first chunk. */
	#chunkOf(key: string): number {
		let low = 0;
		let high = this.#chunks.length - 1;
		while (low < high) {
			const middle = (low + high + 1) >>> 1;
			if (compareKeys(this.#chunks[middle]![0]!.key, key) <= 0) low = middle;
			else high = middle - 1;
		}
		return low;
	}
}

function lowerBound(chunk: readonly Keyed[], key: string): number {
	let low = 0;
	let high = chunk.length;
	while (low < high) {
		const middle = (low + high) >>> 1;
		if (compareKeys(chunk[middle]!.key, key) < 0) low = middle + 1;
		else high = middle;
	}
	return low;
}
