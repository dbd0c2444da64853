import { createRevisionOf, RECORD_HEADER_BYTES, revisionOf } from "./kv-record.ts";
import type { KvChange } from "./kv-store.ts";
import { PackedChange, Piece } from "./packed-change.ts";
import type { Slab } from "./slabs.ts";

/**
 * Of each change in turn, little-endian: u16 number of the write, u16 flags, u16 slab and u16 slab of the old record, u32 start
 * and length of the record or the note, and of the old record.
 */
export const ROW_BYTES = 24;
export const HAS_VALUE = 1;
export const HAS_OLD = 2;
export const HAS_NOTE = 4;

/** What a change takes beside its key, its records and its note. */
export const CHANGE_BYTES = ROW_BYTES + 8;

/**
 * What one commit changed under the prefixes of a group, packed: some hundred thousand changes are kept, of most of which nobody
 * ever asks, and each as an object would be work for the garbage collector. They are numbered from 0, in order.
 */
export class PackedChanges {
	/** Of the last write of the commit, here or not: all of its changes are up to it. */
	readonly revision: number;
	readonly keys: readonly string[];
	/** Of all changes, with what they take here. */
	readonly bytes: number;
	/** Where it is all kept; the last of them has the rows. */
	readonly slabs: readonly Slab[];
	readonly #firstRevision: number;
	readonly #rows: number;

	constructor(
		firstRevision: number,
		revision: number,
		keys: readonly string[],
		slabs: readonly Slab[],
		rows: number,
		bytes: number,
	) {
		this.#firstRevision = firstRevision;
		this.revision = revision;
		this.keys = keys;
		this.slabs = slabs;
		this.#rows = rows;
		this.bytes = bytes;
	}

	get count(): number {
		return this.keys.length;
	}

	revisionAt(at: number): number {
		return this.#firstRevision + (this.#word(at, 0) & 0xffff);
	}

	bytesAt(at: number): number {
		return CHANGE_BYTES + this.keys[at]!.length + this.#word(at, 3) + this.#word(at, 5);
	}

	/** A change of its own for each call. */
	changeAt(at: number): KvChange {
		const revision = this.revisionAt(at);
		const flags = this.#word(at, 0) >>> 16;
		const slabs = this.#word(at, 1);
		const slab = this.#lend(slabs & 0xffff);
		const oldSlab = this.#lend(slabs >>> 16);
		const start = this.#word(at, 2);
		const length = this.#word(at, 3);
		const oldStart = this.#word(at, 4);
		const hasValue = (flags & HAS_VALUE) !== 0;
		const hasOld = (flags & HAS_OLD) !== 0;
		let createRevision = revision;
		if (hasValue) createRevision = createRevisionOf(slab, start);
		else if (hasOld) createRevision = createRevisionOf(oldSlab, oldStart);
		const oldRevision = hasOld ? revisionOf(oldSlab, oldStart) : 0;
		const lastOfCommit = revision === this.revision;
		return new PackedChange(
			{ key: this.keys[at]!, revision, createRevision, oldRevision, lastOfCommit },
			{
				value: hasValue ? valuePiece(slab, start, length) : undefined,
				oldValue: hasOld ? valuePiece(oldSlab, oldStart, this.#word(at, 5)) : undefined,
				note: flags & HAS_NOTE ? new Piece(slab, start, length) : undefined,
			},
		);
	}

	#lend(number: number): Buffer {
		const slab = this.slabs[number]!;
		slab.isLent = true;
		return slab.bytes;
	}

	#word(at: number, word: number): number {
		return this.slabs[this.slabs.length - 1]!.bytes.readUInt32LE(this.#rows + at * ROW_BYTES + word * 4);
	}
}

function valuePiece(slab: Buffer, start: number, length: number): Piece {
	return new Piece(slab, start + RECORD_HEADER_BYTES, length - RECORD_HEADER_BYTES);
}
