import type { EntryCache } from "./entry-cache.ts";
import type { EntrySlot } from "./entry-slot.ts";
import type { UnitSettled, WriteUnit } from "./entry-write.ts";
import type { Turn, TurnTaker } from "./key-turns.ts";
import type { OpenStore } from "./open-store.ts";
import type { WriterShare } from "./waiting-units.ts";

/** What one write of a unit comes to; `revision` is its place among the round's writes until it is stored, -1: nothing. */
export interface Outcome {
	revision: number;
	changed: boolean;
	previous: Uint8Array | undefined;
	number: number | undefined;
}

/** A unit that waits for its turn, or is being written. */
export class QueuedUnit implements TurnTaker {
	readonly unit: WriteUnit;
	readonly settled: UnitSettled;
	/** Of the writes. */
	readonly slots: readonly EntrySlot[];
	/** Of the checks. */
	readonly checkSlots: readonly EntrySlot[];
	/** About how many bytes it holds. */
	readonly weight: number;
	/** Whether others had its keys when it came: then what it was admitted by may be long ago. */
	hadToWait = false;
	/** What of its writer waits, which it is counted in. */
	share: WriterShare | undefined;
	outcomes: Outcome[] = NO_OUTCOMES;
	/** Called once it is stored. */
	stored: (() => void) | undefined;
	turn: Turn | undefined;
	blocked = 0;

	constructor(unit: WriteUnit, settled: UnitSettled, cache: EntryCache) {
		const { writes, checks } = unit;
		this.unit = unit;
		this.settled = settled;
		this.slots = slotsOf(writes, cache);
		this.checkSlots = checks.length === 0 ? NO_SLOTS : slotsOf(checks, cache);
		let weight = UNIT_BYTES * (1 + writes.length + checks.length);
		for (const { key } of checks) weight += key.length;
		for (const write of writes) {
			weight += write.key.length;
			if (write.kind === "set") weight += write.value.byteLength;
			else if (write.kind === "append") weight += write.element.length;
		}
		this.weight = weight;
	}
}

function slotsOf(operations: readonly { readonly store: OpenStore; readonly key: string }[], cache: EntryCache) {
	const [first] = operations;
	if (operations.length === 1) return [cache.slot(first!.store.id, first!.key)];
	return operations.map(({ store, key }) => cache.slot(store.id, key));
}

/** The end of an entry of its own accord, as an index has announced it. */
export class QueuedEnd implements TurnTaker {
	readonly slot: EntrySlot;
	/** Of the index. */
	readonly indexKey: string;
	readonly settled: (error?: unknown) => void;
	turn: Turn | undefined;
	blocked = 0;

	constructor(end: AnnouncedEnd, cache: EntryCache) {
		this.slot = cache.slot(end.storeId, end.key);
		this.indexKey = end.indexKey;
		this.settled = end.settled;
	}
}

/** An index says that an entry ends. */
export interface AnnouncedEnd {
	readonly storeId: string;
	readonly key: string;
	readonly indexKey: string;
	readonly settled: (error?: unknown) => void;
}

export type Queued = QueuedUnit | QueuedEnd;

const NO_SLOTS: readonly EntrySlot[] = Object.freeze([]);
const NO_OUTCOMES: Outcome[] = [];
/** What a unit takes beside its values, and each of its operations, about. */
const UNIT_BYTES = 320;
