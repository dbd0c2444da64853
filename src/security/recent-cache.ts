/**
 * The values asked for lately, in two generations: when the young one is full it becomes the old one, and what is asked
 * for again moves back. Holds at most twice `generation` values, and at least the `generation` used last.
 */
export class RecentCache<V> {
	readonly #generation: number;
	#young = new Map<string, V>();
	#old = new Map<string, V>();

	constructor(generation: number) {
		this.#generation = generation;
	}

	/** Values held. */
	get size(): number {
		return this.#young.size + this.#old.size;
	}

	get(key: string): V | undefined {
		const young = this.#young.get(key);
		if (young !== undefined) return young;
		const old = this.#old.get(key);
		if (old !== undefined) this.set(key, old);
		return old;
	}

	set(key: string, value: V): void {
		if (this.#young.size >= this.#generation && !this.#young.has(key)) {
			this.#old = this.#young;
			this.#young = new Map();
		}
		this.#old.delete(key);
		this.#young.set(key, value);
	}

	delete(key: string): void {
		this.#young.delete(key);
		this.#old.delete(key);
	}

	clear(): void {
		this.#young.clear();
		this.#old.clear();
	}
}
