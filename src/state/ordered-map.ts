import { compareKeys } from "./key-order.ts";

const CHUNK = 256;
/** Units from here on order otherwise in UTF-8 than in UTF-16. */
const WIDE = /[\ud800-\uffff]/;

interface Keyed {
	readonly key: string;
}

/**
 * A map in the order of its keys' UTF-8 bytes: a plain map for the items, and sorted chunks of at most 512 keys, found by
 * binary search, for the order. Writing a key again does not touch the order.
 */
export class OrderedMap<T extends Keyed> {
	readonly #items = new Map<string, T>();
	/** Never an empty chunk, but for the only one. */
	readonly #chunks: string[][] = [[]];
	/** The engine's own order will do as long as no key has units that order otherwise. */
	#compare: (a: string, b: string) => number = compareUnits;

	get size(): number {
		return this.#items.size;
	}

	get(key: string): T | undefined {
		return this.#items.get(key);
	}

	set(item: T): void {
		const { key } = item;
		if (!this.#items.has(key)) this.#insert(key);
		this.#items.set(key, item);
	}

	delete(key: string): boolean {
		if (!this.#items.delete(key)) return false;
		const at = this.#chunkOf(key);
		const chunk = this.#chunks[at]!;
		chunk.splice(this.#lowerBound(chunk, key), 1);
		if (chunk.length === 0 && this.#chunks.length > 1) this.#chunks.splice(at, 1);
		return true;
	}

	/** Items with `start <= key < end`. The map must not change while it is iterated. */
	*range(start: string, end: string | undefined): Generator<T, void, undefined> {
		let at = this.#chunkOf(start);
		let index = this.#lowerBound(this.#chunks[at]!, start);
		for (; at < this.#chunks.length; at++, index = 0) {
			const chunk = this.#chunks[at]!;
			for (; index < chunk.length; index++) {
				const key = chunk[index]!;
				if (end !== undefined && this.#compare(key, end) >= 0) return;
				yield this.#items.get(key)!;
			}
		}
	}

	/** The same items from the last to the first. */
	*reverseRange(start: string, end: string | undefined): Generator<T, void, undefined> {
		let at = end === undefined ? this.#chunks.length - 1 : this.#chunkOf(end);
		let index = end === undefined ? this.#chunks[at]!.length : this.#lowerBound(this.#chunks[at]!, end);
		while (true) {
			const chunk = this.#chunks[at]!;
			while (--index >= 0) {
				const key = chunk[index]!;
				if (this.#compare(key, start) < 0) return;
				yield this.#items.get(key)!;
			}
			if (--at < 0) return;
			index = this.#chunks[at]!.length;
		}
	}

	#insert(key: string): void {
		// Until now no stored key was wide, and a narrow one compares with any other the same way in both orders.
		if (this.#compare === compareUnits && WIDE.test(key)) this.#compare = compareKeys;
		const at = this.#chunkOf(key);
		const chunk = this.#chunks[at]!;
		chunk.splice(this.#lowerBound(chunk, key), 0, key);
		if (chunk.length > CHUNK * 2) this.#chunks.splice(at + 1, 0, chunk.splice(CHUNK));
	}

	/** The last chunk whose first key is not above `key`, or the first chunk. */
	#chunkOf(key: string): number {
		let low = 0;
		let high = this.#chunks.length - 1;
		while (low < high) {
			const middle = (low + high + 1) >>> 1;
			if (this.#compare(this.#chunks[middle]![0]!, key) <= 0) low = middle;
			else high = middle - 1;
		}
		return low;
	}

	#lowerBound(chunk: readonly string[], key: string): number {
		let low = 0;
		let high = chunk.length;
		while (low < high) {
			const middle = (low + high) >>> 1;
			if (this.#compare(chunk[middle]!, key) < 0) low = middle + 1;
			else high = middle;
		}
		return low;
	}
}

function compareUnits(a: string, b: string): number {
	if (a < b) return -1;
	return a === b ? 0 : 1;
}
