import type { EntryWrite } from "./entry-write.ts";

/** Records that the writes of a unit store, beside those of what they replace: see `TransactRequest.writes`. */
export function unitCost(writes: readonly EntryWrite[]): number {
	let cost = 0;
	for (const write of writes) {
		const { store } = write;
		cost++;
		if (write.kind === "delete") {
			if (store.history > 1) cost += 2;
			continue;
		}
		if (store.history > 1) cost++;
		if ((write.ttlMs ?? store.defaultTtlMs) > 0) cost++;
		if (write.kind === "set" && write.instanceId !== "") cost++;
	}
	return cost;
}
