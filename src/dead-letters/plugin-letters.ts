/** What is known of a letter in memory. */
export interface LetterFacts {
	readonly origin: string;
	/** What it counts for. */
	readonly bytes: number;
}

/** The ids of one plugin's letters, oldest first; and which of them are being taken out. */
export class PluginLetters {
	readonly #letters = new Map<string, LetterFacts>();
	readonly #claimed = new Map<string, number>();
	#bytes = 0;

	get size(): number {
		return this.#letters.size;
	}

	/** Those being taken out too. */
	get ids(): readonly string[] {
		return [...this.#letters.keys()];
	}

	add(id: string, facts: LetterFacts): void {
		this.#letters.set(id, facts);
		this.#bytes += facts.bytes;
	}

	/** Whether it is here and not being taken out. */
	has(id: string): boolean {
		return this.#letters.has(id) && !this.#claimed.has(id);
	}

	/** False: it is not here, or somebody has it already. */
	claim(id: string): boolean {
		if (!this.has(id)) return false;
		const { bytes } = this.#letters.get(id)!;
		this.#claimed.set(id, bytes);
		this.#bytes -= bytes;
		return true;
	}

	release(id: string): void {
		this.#bytes += this.#claimed.get(id) ?? 0;
		this.#claimed.delete(id);
	}

	remove(id: string): void {
		if (!this.#claimed.delete(id)) this.#bytes -= this.#letters.get(id)?.bytes ?? 0;
		this.#letters.delete(id);
	}

	/** Claims the oldest until the rest, the newest at least, is within the bounds. At most 100 at a time. */
	claimOverflow(bounds: { readonly letters: number; readonly bytes: number }): readonly string[] {
		const claimed: string[] = [];
		let left = this.#letters.size - this.#claimed.size;
		if (left <= bounds.letters && this.#bytes <= bounds.bytes) return claimed;
		for (const id of this.#letters.keys()) {
			if (left <= 1 || (left <= bounds.letters && this.#bytes <= bounds.bytes) || claimed.length === 100) break;
			if (!this.claim(id)) continue;
			claimed.push(id);
			left--;
		}
		return claimed;
	}

	/** The oldest `limit` of an origin (empty: of any) that nobody is taking out, and whether there are more. */
	oldest(limit: number, ofOrigin: string): { readonly ids: readonly string[]; readonly more: boolean } {
		const ids: string[] = [];
		for (const [id, { origin }] of this.#letters) {
			if (this.#claimed.has(id) || (ofOrigin !== "" && origin !== ofOrigin)) continue;
			if (ids.length === limit) return { ids, more: true };
			ids.push(id);
		}
		return { ids, more: false };
	}
}
