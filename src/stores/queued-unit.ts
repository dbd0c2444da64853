import type { EntryCache } from "./entry-cache.ts";
import type { EntrySlot } from "./entry-slot.ts";
import type { UnitSettled, WriteUnit } from "./entry-write.ts";
import { type Turn, type TurnTaker, takeTurn } from "./key-turns.ts";
import type { OpenStore } from "./open-store.ts";
import type { WriterShare } from "./waiting-units.ts";

/** What one write of a unit comes to; `revision` is its place among the round's writes until it is stored, -1: nothing. */
export interface Outcome {
	revision: number;
	changed: boolean;
	previous: Uint8Array | undefined;
	number: number | undefined;
}

interface Operation {
	readonly store: OpenStore;
	readonly key: string;
}

/** A unit that waits for its turn, or is being written. */
export class QueuedUnit implements TurnTaker {
	readonly unit: WriteUnit;
	readonly settled: UnitSettled;
	/** Of the writes. */
	readonly slots: readonly EntrySlot[];
	/** Of the checks. */
	readonly checkSlots: readonly EntrySlot[];
	/** About how many bytes it holds, as they are counted in `share`. */
	readonly weight: number;
	/** Whether others had its keys when it came: then what it was admitted by may be long ago. */
	hadToWait = false;
	/** What of its writer waits, which it is counted in. */
	readonly share: WriterShare;
	outcomes: Outcome[] = NO_OUTCOMES;
	/** Called once it is stored. */
	stored: (() => void) | undefined;
	turn: Turn | undefined;
	blocked = 0;

	/** Takes its place in the lines of its keys. */
	constructor(unit: WriteUnit, settled: UnitSettled, cache: EntryCache, share: WriterShare, weight: number) {
		const { writes, checks } = unit;
		this.unit = unit;
		this.settled = settled;
		this.share = share;
		this.weight = weight;
		this.slots = this.#enter(writes, cache);
		this.checkSlots = checks.length === 0 ? NO_SLOTS : this.#enter(checks, cache);
	}

	#enter(operations: readonly Operation[], cache: EntryCache): readonly EntrySlot[] {
		const slots = new Array<EntrySlot>(operations.length);
		for (let at = 0; at < operations.length; at++) {
			const { store, key } = operations[at]!;
			const slot = cache.slot(store.id, key);
			// At once: a slot that nobody stands in line for may go to make room for the next one.
			takeTurn(this, slot);
			slots[at] = slot;
		}
		return slots;
	}
}

/** About how many bytes a unit holds. */
export function weightOf({ writes, checks }: WriteUnit): number {
	let weight = UNIT_BYTES * (1 + writes.length + checks.length);
	for (const { key } of checks) weight += key.length;
	for (const write of writes) {
		weight += write.key.length;
		if (write.kind === "set") weight += write.value.byteLength;
		else if (write.kind === "append") weight += write.element.length;
	}
	return weight;
}

/** The end of an entry of its own accord, as an index has announced it. */
export class QueuedEnd implements TurnTaker {
	readonly slot: EntrySlot;
	/** Of the index. */
	readonly indexKey: string;
	readonly settled: (error?: unknown) => void;
	turn: Turn | undefined;
	blocked = 0;

	/** Takes its place in the line of the key. */
	constructor(end: AnnouncedEnd, cache: EntryCache) {
		this.slot = cache.slot(end.storeId, end.key);
		takeTurn(this, this.slot);
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
