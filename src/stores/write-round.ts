import { KV_LIMITS, type KvCheck, type KvWrite } from "../state/kv-store.ts";
import type { OpenStore } from "./open-store.ts";
import { storeKeys } from "./store-keys.ts";
import type { StoredEntry } from "./stored-entry.ts";
import type { UsageRow } from "./usage-book.ts";

/** An entry that a round makes, replaces or ends. */
interface Staged {
	readonly storeId: string;
	readonly key: string;
	/** Its place among the writes. */
	readonly index: number;
	readonly before: StoredEntry | undefined;
	readonly after: StoredEntry | undefined;
}

/** Something that a write makes superfluous, and that is deleted with a later commit. */
export interface Leftover {
	readonly key: string;
	/** The store whose old version it is, and its revision; undefined: it is a key of an index. */
	readonly version: { readonly storeId: string; readonly revision: number } | undefined;
}

/** How a row was when the unit in hand began. */
interface RowBefore {
	readonly row: UsageRow;
	readonly keys: number;
	readonly bytes: number;
	readonly versions: number;
}

/** Room for the record of a row: its key and its numbers. */
const ROW_BYTES = 320;

/**
 * What goes into one commit. Units are added one by one: what the one in hand has added is taken back if it is refused or finds
 * no room.
 */
export class WriteRound {
	/** When the round is made, in milliseconds since the Unix epoch: the time of all that it writes. */
	readonly now: number;
	readonly checks: KvCheck[] = [];
	readonly writes: KvWrite[] = [];
	readonly staged: Staged[] = [];
	readonly leftovers: Leftover[] = [];
	/** Keys that it writes and that were left over perhaps. */
	readonly revived: string[] = [];
	/** By id, each as it is now. */
	readonly stores = new Map<string, OpenStore>();
	readonly rows: UsageRow[] = [];
	/** The first time at which an entry that it writes ends, in milliseconds since the Unix epoch. */
	firstExpiry = Number.POSITIVE_INFINITY;
	/** The places of the rows' writes; -1: of one that is not written. */
	#rowIndexes: readonly number[] = [];
	#bytes = 0;
	/** What there was before the unit in hand. */
	#before = { checks: 0, writes: 0, staged: 0, leftovers: 0, revived: 0, bytes: 0 };
	#rowsBefore: RowBefore[] = [];

	constructor(now: number) {
		this.now = now;
	}

	/** Whether all that is in it is within the bounds of a commit. */
	get fits(): boolean {
		const writes = this.writes.length + this.rows.length;
		return writes <= KV_LIMITS.commitWrites && this.#bytes + this.rows.length * ROW_BYTES <= KV_LIMITS.commitBytes;
	}

	/** Writes that there is still room for. */
	get room(): number {
		return KV_LIMITS.commitWrites - this.writes.length - this.rows.length;
	}

	/** Whether nothing would be written. */
	get isEmpty(): boolean {
		return this.writes.length === 0;
	}

	/** The rows that the unit in hand has counted in, as they were before it. */
	get counted(): readonly RowBefore[] {
		return this.#rowsBefore;
	}

	/** A unit begins. */
	begin(): void {
		this.#before = {
			checks: this.checks.length,
			writes: this.writes.length,
			staged: this.staged.length,
			leftovers: this.leftovers.length,
			revived: this.revived.length,
			bytes: this.#bytes,
		};
		if (this.#rowsBefore.length > 0) this.#rowsBefore = [];
	}

	/** Takes back all since `begin`. */
	rollBack(): void {
		const before = this.#before;
		this.checks.length = before.checks;
		this.writes.length = before.writes;
		this.staged.length = before.staged;
		this.leftovers.length = before.leftovers;
		this.revived.length = before.revived;
		this.#bytes = before.bytes;
		for (const { row, keys, bytes, versions } of this.#rowsBefore) {
			row.nextKeys = keys;
			row.nextBytes = bytes;
			row.nextVersions = versions;
		}
		this.#rowsBefore = [];
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
		const at = this.leftovers.findIndex((leftover, index) => index >= this.#before.leftovers && leftover.key === key);
		if (at >= 0) this.leftovers.splice(at, 1);
	}

	count(row: UsageRow, keys: number, bytes: number, versions: number): void {
		if (!row.isListed) {
			row.isListed = true;
			this.rows.push(row);
		}
		if (!this.#rowsBefore.some((before) => before.row === row)) {
			this.#rowsBefore.push({ row, keys: row.nextKeys, bytes: row.nextBytes, versions: row.nextVersions });
		}
		row.nextKeys += keys;
		row.nextBytes += bytes;
		row.nextVersions += versions;
	}

	/** When all is in it: the rows, and that the stores are as they were when it was made. */
	seal(): void {
		if (this.isEmpty) return;
		for (const { name, revision } of this.stores.values()) {
			this.checks.push({ key: storeKeys.definition(name), revision });
		}
		this.#rowIndexes = this.rows.map((row) => {
			if (!row.isChanged) return -1;
			const { key, revision } = row;
			this.checks.push({ key, revision });
			return this.write(row.isEmpty ? { key, delete: true } : { key, value: row.encode() });
		});
	}

	/** It is stored. */
	settleRows(firstRevision: number): void {
		for (const [at, row] of this.rows.entries()) {
			row.isListed = false;
			const index = this.#rowIndexes[at]!;
			if (index >= 0) row.settle(row.isEmpty ? 0 : firstRevision + index);
		}
	}

	/** It is not stored. */
	dropRows(): void {
		for (const row of this.rows) {
			row.isListed = false;
			row.reset();
		}
	}
}

const NOTHING = new Uint8Array();
