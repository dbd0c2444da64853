/** Something that needs keys for itself. */
export interface TurnTaker {
	/** Its places in the lines of its keys. `KeyTurns`' own. */
	turns: Turn[];
	/** How many of its keys others have. */
	blocked: number;
}

/** A place in the line of one key. */
export interface Turn {
	readonly taker: TurnTaker;
	readonly key: string;
	next: Turn | undefined;
}

/**
 * Who may use which key: each key has a line, and whoever is first in the lines of all its keys has them for itself until it
 * lets them go. As each stands in all its lines at once, none waits for one that waits for it.
 */
export class KeyTurns<T extends TurnTaker> {
	/** By key: the last in its line. */
	readonly #last = new Map<string, Turn>();

	/** Keys that somebody has or waits for. */
	get size(): number {
		return this.#last.size;
	}

	/** Puts it in the lines of its keys. True: it has them all. Naming a key twice is harmless. */
	take(taker: T, keys: Iterable<string>): boolean {
		for (const key of keys) this.add(taker, key);
		return taker.blocked === 0;
	}

	/** Puts it in the line of one more key. */
	add(taker: T, key: string): void {
		const last = this.#last.get(key);
		if (last?.taker === taker) return;
		const turn: Turn = { taker, key, next: undefined };
		this.#last.set(key, turn);
		taker.turns.push(turn);
		if (last === undefined) return;
		last.next = turn;
		taker.blocked++;
	}

	/** Lets the keys of one that has them go, and calls `ready` with each that has all of its own now. */
	release(taker: T, ready: (taker: T) => void): void {
		for (const turn of taker.turns) {
			const { next, key } = turn;
			if (next === undefined) this.#last.delete(key);
			else if (--next.taker.blocked === 0) ready(next.taker as T);
		}
		taker.turns = [];
	}
}
