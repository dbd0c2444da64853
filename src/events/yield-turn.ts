/**
 * Lets timers, sockets and other streams have a turn. A loop over a store that answers at once would otherwise keep the
 * process to itself for as long as it finds nothing to deliver.
 */
export function yieldTurn(): Promise<void> {
	return new Promise((resolve) => {
		setImmediate(resolve);
	});
}
