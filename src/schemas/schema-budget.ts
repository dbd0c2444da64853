/** One unit is about 10 ns, so a value is judged within about 20 ms; four times that with patterns that are made to be slow. */
const UNITS = 2_000_000;

/** The value would cost more than a schema may. */
export class OutOfBudget extends Error {
	override readonly name = "OutOfBudget";
}

/** What judging one value may still spend. Judging is synchronous and never nests, so one budget serves all. */
export class SchemaBudget {
	#left = UNITS;

	reset(): void {
		this.#left = UNITS;
	}

	/** Throws `OutOfBudget` once the value has cost more than it may. */
	spend(units: number): void {
		this.#left -= units;
		if (this.#left < 0) throw new OutOfBudget("costs too much to check");
	}
}
