/** How many answers are kept, in all and by principal. As many principals as answers at most. */
export class AnswerCounts {
	readonly #byPrincipal = new Map<string, number>();
	#total = 0;

	get total(): number {
		return this.#total;
	}

	of(principal: string): number {
		return this.#byPrincipal.get(principal) ?? 0;
	}

	add(principal: string): void {
		this.#byPrincipal.set(principal, this.of(principal) + 1);
		this.#total++;
	}
}
