/** The ids of one plugin's letters, oldest first, with their bytes; and which of them are being taken out. */
export class PluginLetters {
	readonly #bytesOf = new Map<string, number>();
	readonly #claimed = new Map<string, number>();
	#bytes = 0;

	get size(): number {
		return this.#bytesOf.size;
	}

	add(id: string, bytes: number): void {
		this.#bytesOf.set(id, bytes);
		this.#bytes += bytes;
	}

	/** Whether it is here and not being taken out. */
	has(id: string): boolean {
		return this.#bytesOf.has(id) && !this.#claimed.has(id);
	}

	/** False: it is not here, or somebody has it already. */
	claim(id: string): boolean {
		if (!this.has(id)) return false;
		const bytes = this.#bytesOf.get(id)!;
		this.#claimed.set(id, bytes);
		this.#bytes -= bytes;
		return true;
	}

	release(id: string): void {
		this.#bytes += this.#claimed.get(id) ?? 0;
		this.#claimed.delete(id);
	}

	remove(id: string): void {
		if (!this.#claimed.delete(id)) this.#bytes -= this.#bytesOf.get(id) ?? 0;
		this.#bytesOf.delete(id);
	}

	/** Claims the oldest until the rest, the newest at least, is within the bounds. At most 100 at a time. */
	claimOverflow(bounds: { readonly letters: number; readonly bytes: number }): readonly string[] {
		const claimed: string[] = [];
		let left = this.#bytesOf.size - this.#claimed.size;
		if (left <= bounds.letters && this.#bytes <= bounds.bytes) return claimed;
		for (const id of this.#bytesOf.keys()) {
			if (left <= 1 || (left <= bounds.letters && this.#bytes <= bounds.bytes) || claimed.length === 100) break;
			if (!this.claim(id)) continue;
			claimed.push(id);
			left--;
		}
		return claimed;
	}

	/** The oldest `limit` that nobody is taking out, and whether there are more. */
	oldest(limit: number): { readonly ids: readonly string[]; readonly more: boolean } {
		const ids: string[] = [];
		for (const id of this.#bytesOf.keys()) {
			if (this.#claimed.has(id)) continue;
			if (ids.length === limit) return { ids, more: true };
			ids.push(id);
		}
		return { ids, more: false };
	}
}
