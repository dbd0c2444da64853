import type { UnitSettled, WriteUnit } from "./entry-write.ts";
import type { Turn, TurnTaker } from "./key-turns.ts";
import { storeKeys } from "./store-keys.ts";

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
	/** Of the writes, in the keyspace. */
	readonly keys: readonly string[];
	/** Of the checks. */
	readonly checkKeys: readonly string[];
	/** About how many bytes it holds. */
	readonly weight: number;
	/** Whether others had its keys when it came: then what it was admitted by may be long ago. */
	hadToWait = false;
	outcomes: Outcome[] = [];
	/** Called once it is stored. */
	stored: (() => void) | undefined;
	turns: Turn[] = [];
	blocked = 0;

	constructor(unit: WriteUnit, settled: UnitSettled) {
		this.unit = unit;
		this.settled = settled;
		this.keys = unit.writes.map(({ store, key }) => storeKeys.entry(store.id, key));
		this.checkKeys =
			unit.checks.length === 0 ? NO_KEYS : unit.checks.map(({ store, key }) => storeKeys.entry(store.id, key));
		let weight = UNIT_BYTES;
		for (const key of this.keys) weight += UNIT_BYTES + key.length;
		for (const key of this.checkKeys) weight += UNIT_BYTES + key.length;
		for (const write of unit.writes) {
			if (write.kind === "set") weight += write.value.byteLength;
			else if (write.kind === "append") weight += write.element.length;
		}
		this.weight = weight;
	}
}

/** The end of an entry of its own accord, as an index has announced it. */
export class QueuedEnd implements TurnTaker {
	readonly storeId: string;
	readonly key: string;
	/** Of the entry, in the keyspace. */
	readonly entryKey: string;
	/** Of the index. */
	readonly indexKey: string;
	readonly settled: (error?: unknown) => void;
	turns: Turn[] = [];
	blocked = 0;

	constructor(end: {
		readonly storeId: string;
		readonly key: string;
		readonly indexKey: string;
		readonly settled: (error?: unknown) => void;
	}) {
		this.storeId = end.storeId;
		this.key = end.key;
		this.entryKey = storeKeys.entry(end.storeId, end.key);
		this.indexKey = end.indexKey;
		this.settled = end.settled;
	}
}

export type Queued = QueuedUnit | QueuedEnd;

const NO_KEYS: readonly string[] = Object.freeze([]);
/** What a unit takes beside its values, and each of its operations, about. */
const UNIT_BYTES = 256;
