/** Something that one at a time may use: a key. */
export interface Line {
	/** The last of those who have it or wait for it; undefined: nobody. */
	last: Turn | undefined;
}

/** Something that needs keys for itself. */
export interface TurnTaker {
	/** Its places in the lines of its keys, the last first. */
	turn: Turn | undefined;
	/** How many of its keys others have. */
	blocked: number;
}

/** A place in the line of one key. */
export interface Turn {
	readonly taker: TurnTaker;
	readonly line: Line;
	/** Behind it in the line. */
	next: Turn | undefined;
	/** Another place of the same taker. */
	readonly also: Turn | undefined;
}

/**
 * Puts it in the line of a key. Whoever is first in the lines of all its keys has them for itself until it lets them go. As each
 * stands in all its lines at once, none waits for one that waits for it. Naming a key twice is harmless.
 */
export function takeTurn(taker: TurnTaker, line: Line): void {
	const { last } = line;
	if (last?.taker === taker) return;
	const turn: Turn = { taker, line, next: undefined, also: taker.turn };
	taker.turn = turn;
	line.last = turn;
	if (last === undefined) return;
	last.next = turn;
	taker.blocked++;
}

/** Lets the keys of one that has them go, and calls `ready` with each that has all of its own now. */
export function releaseTurns<T extends TurnTaker>(taker: T, ready: (taker: T) => void): void {
	for (let turn = taker.turn; turn !== undefined; turn = turn.also) {
		const { next, line } = turn;
		if (next === undefined) line.last = undefined;
		else if (--next.taker.blocked === 0) ready(next.taker as T);
	}
	taker.turn = undefined;
}
