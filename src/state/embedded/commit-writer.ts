import type { ChangeGroup } from "../change-group.ts";
import type { ChangeWindow } from "../change-window.ts";
import { createRevisionOf, RECORD_HEADER_BYTES, revisionOf, writeKvRecord } from "../kv-record.ts";
import type { KvBytes, KvCheck, KvCommit, KvWrite } from "../kv-store.ts";
import type { PackedChanges } from "../packed-changes.ts";
import type { TextDatabase } from "./environment.ts";

/** What a commit changed in a group of the window. */
export interface GroupChanges {
	readonly group: ChangeGroup;
	readonly packed: PackedChanges;
}

interface Conflict {
	readonly key: string;
	readonly actual: number;
}

/** A buffer that begins at the start of its memory, of which the database takes what is between `start` and `end`. */
interface PartOfBuffer extends Buffer {
	start?: number;
	end?: number;
}

/** How far ahead the write of a checked key is looked for. */
const NEAR = 4;
const NO_CHECKS: readonly KvCheck[] = Object.freeze([]);

/**
 * Decides and writes one commit at a time, in the transaction: `conflicts`, then `write` if there are none. A key is read once;
 * what is known of it is kept in tables that the next commit uses again, and a record is made where the window keeps it.
 */
export class CommitWriter {
	readonly #kv: TextDatabase;
	readonly #window: ChangeWindow;
	/** By the number of the write: where the change is kept, whether the key was read, and what was found; 0: nothing. */
	readonly #groups: (ChangeGroup | undefined)[] = [];
	readonly #isRead: Uint8Array;
	readonly #revisions: Float64Array;
	readonly #createRevisions: Float64Array;
	/** Groups that the commit in hand has writes for. */
	readonly #touched: ChangeGroup[] = [];
	/** For records that are not kept. */
	#record: Buffer = Buffer.allocUnsafeSlow(64 * 1024);

	/** `commitWrites`: that one commit has at most. */
	constructor(kv: TextDatabase, window: ChangeWindow, commitWrites: number) {
		this.#kv = kv;
		this.#window = window;
		this.#isRead = new Uint8Array(commitWrites);
		this.#revisions = new Float64Array(commitWrites);
		this.#createRevisions = new Float64Array(commitWrites);
	}

	/** Every check that fails, those of writes last. The commit in hand is this one from now on. */
	conflicts({ checks = NO_CHECKS, writes }: KvCommit): readonly Conflict[] {
		this.#begin(writes);
		const found: Conflict[] = [];
		// What a check has read is not read again by the write that it is for, which is near where checks and writes go in step.
		let place = 0;
		for (const { key, revision } of checks) {
			const at = placeOf(key, writes, place);
			if (at >= 0) place = at + 1;
			const actual = at >= 0 ? this.#read(at, key) : this.#revisionOf(key);
			if (actual !== revision) found.push({ key, actual });
		}
		for (let at = 0; at < writes.length; at++) {
			const { key, expected } = writes[at]!;
			if (expected === undefined) continue;
			const actual = this.#isRead[at] === 1 ? this.#revisions[at]! : this.#read(at, key);
			if (actual !== expected) found.push({ key, actual });
		}
		if (found.length > 0) for (const { packer } of this.#touched) packer.abandon();
		return found;
	}

	/** Writes the commit in hand, and gives what the window is to be told once it is on the disk. */
	write(writes: readonly KvWrite[], firstRevision: number): readonly GroupChanges[] {
		for (let at = 0; at < writes.length; at++) {
			const write = writes[at]!;
			const { key, value } = write;
			const packer = this.#groups[at]?.packer;
			if (this.#isRead[at] === 0 && (value !== undefined || packer !== undefined)) this.#read(at, key);
			if (value === undefined) {
				this.#kv.remove(key);
				packer?.remove(at, key, write.note);
				continue;
			}
			const revision = firstRevision + at;
			const createRevision = this.#revisions[at] === 0 ? revision : this.#createRevisions[at]!;
			if (packer === undefined) {
				this.#putUnkept(key, revision, createRevision, value);
			} else {
				const length = packer.set(at, key, revision, createRevision, value);
				this.#put(key, packer.slab, packer.start, length);
			}
		}
		const revision = firstRevision + writes.length - 1;
		return this.#touched.map((group) => ({ group, packed: group.packer.finish(firstRevision, revision) }));
	}

	#begin(writes: readonly KvWrite[]): void {
		this.#touched.length = 0;
		this.#isRead.fill(0, 0, writes.length);
		let last: ChangeGroup | undefined;
		for (let at = 0; at < writes.length; at++) {
			const { key, silent } = writes[at]!;
			if (silent === true) {
				this.#groups[at] = undefined;
				continue;
			}
			// Writes beside each other are mostly of one group, and no key is of two.
			const group = last?.keeps(key) ? last : this.#window.groupOf(key);
			this.#groups[at] = group;
			if (group === undefined || group === last) continue;
			last = group;
			if (this.#touched.includes(group)) continue;
			this.#touched.push(group);
			group.packer.begin(writes.length);
		}
	}

	/** Reads the key of a write: its revision. */
	#read(at: number, key: string): number {
		this.#isRead[at] = 1;
		const stored = this.#kv.getBinaryFast(key) as Buffer | undefined;
		if (stored === undefined) {
			this.#revisions[at] = 0;
			return 0;
		}
		const revision = revisionOf(stored);
		this.#revisions[at] = revision;
		this.#createRevisions[at] = createRevisionOf(stored);
		this.#groups[at]?.packer.oldRecord(at, stored, stored.length);
		return revision;
	}

	#revisionOf(key: string): number {
		const stored = this.#kv.getBinaryFast(key) as Buffer | undefined;
		return stored === undefined ? 0 : revisionOf(stored);
	}

	#putUnkept(key: string, revision: number, createRevision: number, value: Uint8Array | KvBytes): void {
		const length = RECORD_HEADER_BYTES + value.byteLength;
		if (length > this.#record.byteLength) {
			const large = Buffer.allocUnsafeSlow(length);
			writeKvRecord(large, 0, revision, createRevision, value);
			this.#kv.put(key, large);
			return;
		}
		writeKvRecord(this.#record, 0, revision, createRevision, value);
		this.#put(key, this.#record, 0, length);
	}

	/** In a transaction the database copies the bytes at once. */
	#put(key: string, buffer: PartOfBuffer, start: number, length: number): void {
		buffer.start = start;
		buffer.end = start + length;
		this.#kv.put(key, buffer);
	}
}

/** The place of the key's write, where it is one of the next few from `from` on; else -1. */
function placeOf(key: string, writes: readonly KvWrite[], from: number): number {
	const end = Math.min(from + NEAR, writes.length);
	for (let at = from; at < end; at++) if (writes[at]!.key === key) return at;
	return -1;
}
