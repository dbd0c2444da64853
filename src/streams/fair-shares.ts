/** How many times what is still free one holder may have. */
const SHARE = 8;

/**
 * Whether who holds `held` of something bounded may have `more` of it, of which `free` is left. A holder may have up to 8 times
 * what is free: one alone gets most of it, several that take all they can get equal shares, and each of the others always
 * finds about as much as one of them has. Who has nothing may have one thing, whatever the others have.
 */
export function isFairShare(held: number, more: number, free: number): boolean {
	return held === 0 || held + more <= SHARE * free;
}

/** What several holders have of something bounded, each within its fair share. Nothing is kept of one that has nothing. */
export class FairShares {
	readonly #total: number;
	readonly #held = new Map<string, number>();
	#used = 0;

	constructor(total: number) {
		this.#total = total;
	}

	/** What all have together. */
	get used(): number {
		return this.#used;
	}

	/** Above the total is nobody but who has one thing only. */
	hasRoom(holder: string, more: number): boolean {
		const held = this.#held.get(holder) ?? 0;
		const free = this.#total - this.#used;
		return (held === 0 || more <= free) && isFairShare(held, more, free);
	}

	/** Whether or not there is room. */
	take(holder: string, more: number): void {
		this.#used += more;
		this.#held.set(holder, (this.#held.get(holder) ?? 0) + more);
	}

	/** Of what was taken. */
	giveBack(holder: string, less: number): void {
		this.#used -= less;
		const left = (this.#held.get(holder) ?? 0) - less;
		if (left > 0) this.#held.set(holder, left);
		else this.#held.delete(holder);
	}
}
