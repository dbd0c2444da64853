import { KV_LIMITS, type KvCheck, type KvWrite } from "../state/kv-store.ts";
import type { EntrySlot } from "./entry-slot.ts";
import type { OpenStore } from "./open-store.ts";
import { storeKeys } from "./store-keys.ts";
import type { StoredEntry } from "./stored-entry.ts";
import type { UsageRow } from "./usage-book.ts";

/** An entry that a round makes or replaces: the write of it, and what it is for those who wait. */
export class StagedPut {
	readonly key: string;
	readonly value: StoredEntry;
	readonly expected: number;
	readonly slot: EntrySlot;
	readonly before: StoredEntry | undefined;
	/** Its place among the writes. */
	readonly index: number;

	constructor(slot: EntrySlot, value: StoredEntry, before: StoredEntry | undefined, index: number) {
		this.key = slot.entryKey;
		this.value = value;
		this.expected = before === undefined ? 0 : before.revision;
		this.slot = slot;
		this.before = before;
		this.index = index;
	}
}

/** An entry that a round ends. */
export class StagedEnd {
	readonly key: string;
	readonly delete = true;
	readonly note: Uint8Array;
	readonly expected: number;
	readonly slot: EntrySlot;

	constructor(slot: EntrySlot, before: StoredEntry, note: Uint8Array) {
		this.key = slot.entryKey;
		this.note = note;
		this.expected = before.revision;
		this.slot = slot;
	}
}

/** Something that a write makes superfluous, and that is deleted with a later commit. */
export interface Leftover {
	readonly key: string;
	/** The store whose old version it is, and its revision; undefined: it is a key of an index. */
	readonly version: { readonly storeId: string; readonly revision: number } | undefined;
}

/** How a row was when the unit in hand began. */
interface RowBefore {
	row: UsageRow;
	keys: number;
	bytes: number;
	versions: number;
}

/** A row as the round leaves it. */
interface SealedRow {
	readonly row: UsageRow;
	readonly keys: number;
	readonly bytes: number;
	readonly versions: number;
	/** The place of its write; -1: it is as it was. */
	readonly index: number;
}

/** Room for the record of a row: its key and its numbers. */
const ROW_BYTES = 320;

/**
 * What goes into one commit. Units are added one by one: what the one in hand has added is taken back if it is refused or finds
 * no room.
 */
export class WriteRound {
	/** When the units that are added now are decided, in milliseconds since the Unix epoch: the time of what they write. */
	now: number;
	readonly checks: KvCheck[] = [];
	readonly writes: KvWrite[] = [];
	readonly staged: (StagedPut | StagedEnd)[] = [];
	readonly leftovers: Leftover[] = [];
	/** Keys that it writes and that were left over perhaps. */
	readonly revived: string[] = [];
	/** By id, each as it is now. */
	readonly stores = new Map<string, OpenStore>();
	readonly rows: UsageRow[] = [];
	/** Entries that were taken as living and may end by themselves. */
	readonly living: StoredEntry[] = [];
	/** The first time at which an entry that it writes ends, in milliseconds since the Unix epoch. */
	firstExpiry = Number.POSITIVE_INFINITY;
	readonly #maxWrites: number;
	/** Of the rows: whether they are on this round's list. */
	readonly #number: number;
	#sealed: readonly SealedRow[] = [];
	#bytes = 0;
	/** What there was before the unit in hand. */
	#checksBefore = 0;
	#writesBefore = 0;
	#stagedBefore = 0;
	#leftoversBefore = 0;
	#revivedBefore = 0;
	#bytesBefore = 0;
	/** The first `#counted` are the rows that the unit in hand has counted in, as they were before it. */
	readonly #rowsBefore: RowBefore[] = [];
	#counted = 0;

	/** `number` tells it from others that are made at the same time. */
	constructor(number: number, now: number, maxWrites: number) {
		this.#number = number;
		this.#maxWrites = maxWrites;
		this.now = now;
	}

	/** Whether all that is in it is within the bounds of a commit. */
	get fits(): boolean {
		const writes = this.writes.length + this.rows.length;
		return writes <= this.#maxWrites && this.#bytes + this.rows.length * ROW_BYTES <= KV_LIMITS.commitBytes;
	}

	/** Writes that there is still room for. */
	get room(): number {
		return this.#maxWrites - this.writes.length - this.rows.length;
	}

	/** Whether nothing would be written. */
	get isEmpty(): boolean {
		return this.writes.length === 0;
	}

	/** A unit begins. */
	begin(): void {
		this.#checksBefore = this.checks.length;
		this.#writesBefore = this.writes.length;
		this.#stagedBefore = this.staged.length;
		this.#leftoversBefore = this.leftovers.length;
		this.#revivedBefore = this.revived.length;
		this.#bytesBefore = this.#bytes;
		this.#counted = 0;
	}

	/** Takes back all since `begin`. */
	rollBack(): void {
		this.checks.length = this.#checksBefore;
		this.writes.length = this.#writesBefore;
		this.staged.length = this.#stagedBefore;
		this.leftovers.length = this.#leftoversBefore;
		this.revived.length = this.#revivedBefore;
		this.#bytes = this.#bytesBefore;
		for (let at = 0; at < this.#counted; at++) {
			const { row, keys, bytes, versions } = this.#rowsBefore[at]!;
			row.nextKeys = keys;
			row.nextBytes = bytes;
			row.nextVersions = versions;
		}
		this.#counted = 0;
	}

	/** Puts an entry in the place of what is there. Gives the place of the write. */
	put(slot: EntrySlot, entry: StoredEntry, before: StoredEntry | undefined): number {
		const staged = new StagedPut(slot, entry, before, this.writes.length);
		this.staged.push(staged);
		return this.write(staged);
	}

	/** Deletes what is there. Gives the place of the write. */
	end(slot: EntrySlot, before: StoredEntry, note: Uint8Array): number {
		const staged = new StagedEnd(slot, before, note);
		this.staged.push(staged);
		return this.write(staged);
	}

	/** Gives the place of the write among all of them. */
	write(write: KvWrite): number {
		// A UTF-16 unit is at most three bytes of UTF-8.
		this.#bytes += write.key.length * 3;
		this.#bytes += write.value === undefined ? (write.note?.byteLength ?? 0) : write.value.byteLength;
		return this.writes.push(write) - 1;
	}

	/** A place for a write that comes after others. */
	reserve(): number {
		return this.writes.push({ key: "", value: NOTHING }) - 1;
	}

	/** Puts a write in its reserved place. */
	fill(index: number, write: KvWrite): void {
		this.write(write);
		this.writes[index] = this.writes.pop()!;
	}

	/** Writes a key that may be left over from an earlier write: an index's, which has no value, or a tombstone's. */
	revive(key: string, value: Uint8Array = NOTHING): void {
		this.revived.push(key);
		this.write({ key, value });
	}

	/** Takes a key from what the unit in hand leaves over: it is deleted at once. */
	forsake(key: string): void {
		const at = this.leftovers.findIndex((leftover, index) => index >= this.#leftoversBefore && leftover.key === key);
		if (at >= 0) this.leftovers.splice(at, 1);
	}

	count(row: UsageRow, keys: number, bytes: number, versions: number): void {
		if (row.listedIn !== this.#number) {
			row.listedIn = this.#number;
			this.rows.push(row);
		}
		this.#remember(row);
		row.nextKeys += keys;
		row.nextBytes += bytes;
		row.nextVersions += versions;
	}

	/** How many rows the unit in hand has counted in. */
	get counted(): number {
		return this.#counted;
	}

	/** One of them, as it was before the unit. Good until the next one begins. */
	countedRow(at: number): Readonly<RowBefore> {
		return this.#rowsBefore[at]!;
	}

	/** When all is in it, and what was decided before it is stored: the rows, and that the stores are as they were. */
	seal(): void {
		if (this.isEmpty) return;
		for (const { name, revision } of this.stores.values()) {
			this.checks.push({ key: storeKeys.definition(name), revision });
		}
		this.#sealed = this.rows.map((row) => {
			const { key, revision, nextKeys: keys, nextBytes: bytes, nextVersions: versions } = row;
			const sealed = { row, keys, bytes, versions };
			if (!row.isChanged) return { ...sealed, index: -1 };
			const expected = { key, expected: revision };
			const index = this.write(row.isEmpty ? { ...expected, delete: true } : { ...expected, value: row.encode() });
			return { ...sealed, index };
		});
	}

	/** It is stored. */
	settleRows(firstRevision: number): void {
		for (const { row, keys, bytes, versions, index } of this.#sealed) {
			const isEmpty = keys === 0 && bytes === 0 && versions === 0;
			const revision = index < 0 ? row.revision : isEmpty ? 0 : firstRevision + index;
			row.settle({ keys, bytes, versions, revision });
		}
	}

	/** It is not stored. Neither is anything that was counted after it. */
	dropRows(): void {
		for (const row of this.rows) row.reset();
	}

	#remember(row: UsageRow): void {
		for (let at = 0; at < this.#counted; at++) if (this.#rowsBefore[at]!.row === row) return;
		const { nextKeys: keys, nextBytes: bytes, nextVersions: versions } = row;
		const before = this.#rowsBefore[this.#counted];
		if (before === undefined) this.#rowsBefore.push({ row, keys, bytes, versions });
		else {
			before.row = row;
			before.keys = keys;
			before.bytes = bytes;
			before.versions = versions;
		}
		this.#counted++;
	}
}

const NOTHING = new Uint8Array();
