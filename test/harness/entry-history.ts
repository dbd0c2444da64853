/** What a caller knew of an entry: its revision (0: there is none) and its JSON text. */
export interface Seen {
	readonly revision: number;
	readonly text: string | undefined;
}

/** An operation of which the history is made. Times are those of one counter. */
export interface Recorded {
	readonly invoked: number;
	readonly answered: number;
	/** What it must have found, by key: all of it at one moment. */
	readonly found: ReadonlyMap<string, Seen>;
	/** What must not hold at that moment: the revision that was expected and was not there. */
	readonly wrote: ReadonlyMap<string, Seen & { readonly at: number }>;
	/** For people. */
	readonly what: string;
}

/**
 * What is wrong with a history of operations on entries; undefined: some order of them, in which each comes between its
 * invocation and its answer, explains everything that was seen.
 *
 * Revisions give the order of what was written. So a history is sound if each write finds what the one before it left, comes
 * behind all that was answered before it was invoked, and each read finds a state between those two moments; reads that follow
 * one another never go back.
 */
export function unsound(history: readonly Recorded[]): string | undefined {
	const writes = history.filter(({ wrote }) => wrote.size > 0).sort((a, b) => firstOf(a) - firstOf(b));
	const states: ReadonlyMap<string, Seen>[] = [new Map()];
	const place = new Map<Recorded, number>();
	for (const [index, write] of writes.entries()) {
		const before = states[index]!;
		const after = new Map(before);
		for (const [key, { revision, text, at }] of write.wrote) {
			if (at <= (before.get(key)?.revision ?? 0)) return `${write.what}: its revision is not above the one before it`;
			after.set(key, { revision, text });
		}
		if (!matches(write, before)) return `${write.what}: did not find what was there`;
		states.push(after);
		place.set(write, index + 1);
	}
	// By invocation: the earliest state that explains a read leaves most room for those behind it.
	for (const one of history.toSorted((a, b) => a.invoked - b.invoked)) {
		let least = 0;
		for (const [other, at] of place) if (other.answered < one.invoked) least = Math.max(least, at);
		const own = place.get(one);
		if (own !== undefined) {
			if (own <= least) return `${one.what}: is written before what was answered before it`;
			continue;
		}
		let most = 0;
		for (const [index, write] of writes.entries()) if (write.invoked < one.answered) most = index + 1;
		let at = least;
		while (at <= most && !matches(one, states[at]!)) at++;
		if (at > most) return `${one.what}: nothing between states ${least} and ${most} explains it`;
		place.set(one, at);
	}
	return undefined;
}

function firstOf({ wrote }: Recorded): number {
	return Math.min(...[...wrote.values()].map(({ at }) => at));
}

function matches({ found }: Recorded, state: ReadonlyMap<string, Seen>): boolean {
	for (const [key, { revision, text }] of found) {
		const there = state.get(key);
		if ((there?.revision ?? 0) !== revision || (text !== undefined && there?.text !== text)) return false;
	}
	return true;
}
