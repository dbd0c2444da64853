/** How long filters may be evaluated in one turn of the event loop, by all subscriptions together, in milliseconds. */
const MAX_FILTER_MS = 5;

let spent = 0;
let ending = false;
let waiting: (() => void)[] = [];
let resuming = false;

/** Whether filters have had their share of this turn: then the next evaluation is for after a `yieldTurn`. */
export function filtersAreOver(): boolean {
	return spent > MAX_FILTER_MS;
}

/** Counts time, in milliseconds, that a filter took. An event that wakes many subscriptions is evaluated by all of them. */
export function spendOnFilters(ms: number): void {
	if (ms <= 0) return;
	spent += ms;
	if (ending) return;
	ending = true;
	setImmediate(() => {
		ending = false;
		spent = 0;
	});
}

/**
 * Lets timers, sockets and other streams have a turn. A loop over a store that answers at once would otherwise keep the
 * process to itself for as long as it finds nothing to deliver. Who waits longest goes on first; once filters have had
 * their share of a turn, the others wait for the next one.
 */
export function yieldTurn(): Promise<void> {
	return new Promise((resolve) => {
		waiting.push(resolve);
		if (resuming) return;
		resuming = true;
		setImmediate(resume);
	});
}

/** Begins a turn: those that wait now go on one by one, each as far as it gets without waiting again. */
function resume(): void {
	const ready = waiting;
	waiting = [];
	spent = 0;
	let at = 0;
	const next = () => {
		if (at < ready.length && !filtersAreOver()) {
			ready[at++]!();
			// After everything that the one above does in microtasks.
			queueMicrotask(() => process.nextTick(next));
			return;
		}
		waiting = at === ready.length ? waiting : [...ready.slice(at), ...waiting];
		resuming = waiting.length > 0;
		if (resuming) setImmediate(resume);
	};
	next();
}
