/**
 * Bytes that each principal has handed in and that are not stored yet, over all of its streams. An entry lives only as
 * long as something of its principal is in flight.
 */
export class FlightBudget {
	readonly #maxBytes: number;
	readonly #flights = new Map<string, { bytes: number; waiting: (() => void)[] }>();

	/** `maxBytes` for one principal; what is larger alone is let through when nothing else is in flight. */
	constructor(maxBytes: number) {
		this.#maxBytes = maxBytes;
	}

	/** Principals with something in flight. */
	get size(): number {
		return this.#flights.size;
	}

	hasRoom(principal: string, bytes: number): boolean {
		const flight = this.#flights.get(principal);
		return flight === undefined || flight.bytes + bytes <= this.#maxBytes;
	}

	/** Resolves when something of the principal was stored, or at once where nothing is in flight. */
	room(principal: string): Promise<void> {
		const flight = this.#flights.get(principal);
		if (flight === undefined) return Promise.resolve();
		return new Promise((resolve) => {
			flight.waiting.push(resolve);
		});
	}

	/** Counts the bytes until the result is called. */
	take(principal: string, bytes: number): () => void {
		let flight = this.#flights.get(principal);
		if (flight === undefined) {
			flight = { bytes: 0, waiting: [] };
			this.#flights.set(principal, flight);
		}
		flight.bytes += bytes;
		const taken = flight;
		return () => {
			taken.bytes -= bytes;
			const { waiting } = taken;
			taken.waiting = [];
			if (taken.bytes === 0 && this.#flights.get(principal) === taken) this.#flights.delete(principal);
			for (const wake of waiting) wake();
		};
	}
}
