import { RECORD_HEADER_BYTES, writeKvRecord } from "./kv-record.ts";
import type { KvBytes, KvEntry } from "./kv-store.ts";
import { CHANGE_BYTES, HAS_NOTE, HAS_OLD, HAS_VALUE, PackedChanges, ROW_BYTES } from "./packed-changes.ts";
import { type Slab, Slabs } from "./slabs.ts";

const ROW_WORDS = ROW_BYTES / 4;
/** Their numbers are 16 bits. */
const MAX_WRITES = 65_536;

/**
 * Packs what a commit changes under the prefixes of a group, one commit at a time:
 *
 * begin -> for each write that is kept: `old` where the key lives, then `set` or `remove` in the order of the writes -> finish
 *
 * The pieces of a group are of slabs of its own: a slab that also held what another group keeps for longer would outlive what
 * counts for it.
 */
export class ChangePacker {
	readonly #slabs = new Slabs();
	/** The slabs of the commit in hand. */
	#used: Slab[] = [];
	/** Its changes, and their keys. */
	#count = 0;
	readonly #keys: string[] = [];
	#bytes = 0;
	readonly #rows: Uint32Array<ArrayBuffer>;
	readonly #rowBytes: Buffer;
	/** Of the old records, by the number of the write: slab, start and length; 0: there is none. */
	readonly #oldSlabs: Uint16Array;
	readonly #oldStarts: Uint32Array;
	readonly #oldLengths: Uint32Array;

	/** `commitWrites`: that one commit has at most. */
	constructor(commitWrites: number) {
		if (commitWrites > MAX_WRITES) throw new RangeError(`a commit that is packed has at most ${MAX_WRITES} writes`);
		this.#rows = new Uint32Array(commitWrites * ROW_WORDS);
		this.#rowBytes = Buffer.from(this.#rows.buffer);
		this.#oldSlabs = new Uint16Array(commitWrites);
		this.#oldStarts = new Uint32Array(commitWrites);
		this.#oldLengths = new Uint32Array(commitWrites);
	}

	/** The slab that holds the record that was written last; it begins at the start of its memory. */
	get slab(): Buffer {
		return this.#slabs.slab.bytes;
	}

	/** Where in it. */
	get start(): number {
		return this.#slabs.start;
	}

	/** A commit of so many writes begins. */
	begin(writes: number): void {
		this.#slabs.mark();
		this.#oldLengths.fill(0, 0, writes);
		this.#used = [];
		this.#count = 0;
		this.#bytes = 0;
	}

	/** The commit in hand comes to nothing. */
	abandon(): void {
		this.#slabs.rewind();
	}

	/** What is stored under the key of a write, which is copied. */
	oldRecord(write: number, stored: Buffer, length: number): void {
		this.#takeOld(write, length);
		stored.copy(this.#slabs.slab.bytes, this.#slabs.start, 0, length);
	}

	/** The same where it is not stored as a record. */
	oldEntry(write: number, { value, revision, createRevision }: KvEntry): void {
		this.#takeOld(write, RECORD_HEADER_BYTES + value.byteLength);
		writeKvRecord(this.#slabs.slab.bytes, this.#slabs.start, revision, createRevision, value);
	}

	/** Gives the length of the record, whose place is `slab` and `start` until the next call. */
	set(write: number, key: string, revision: number, createRevision: number, value: Uint8Array | KvBytes): number {
		const length = RECORD_HEADER_BYTES + value.byteLength;
		const slab = this.#take(length);
		writeKvRecord(this.#slabs.slab.bytes, this.#slabs.start, revision, createRevision, value);
		this.#add(write, key, HAS_VALUE, slab, length);
		return length;
	}

	remove(write: number, key: string, note: Uint8Array | undefined): void {
		if (note === undefined) {
			this.#add(write, key, 0, 0, 0);
			return;
		}
		const slab = this.#take(note.byteLength);
		this.#slabs.slab.bytes.set(note, this.#slabs.start);
		this.#add(write, key, HAS_NOTE, slab, note.byteLength);
	}

	/** What was packed of the commit, at least one change. `firstRevision`: of its first write; `revision`: of its last. */
	finish(firstRevision: number, revision: number): PackedChanges {
		const keys = this.#keys.slice(0, this.#count);
		const length = keys.length * ROW_BYTES;
		this.#take(length);
		this.#rowBytes.copy(this.#slabs.slab.bytes, this.#slabs.start, 0, length);
		const bytes = this.#bytes + keys.length * CHANGE_BYTES;
		for (const slab of this.#used) slab.takers++;
		return new PackedChanges(firstRevision, revision, keys, this.#used, this.#slabs.start, bytes);
	}

	/** What was packed is not needed any more, and will not be read again. */
	release(packed: PackedChanges): void {
		for (const slab of packed.slabs) this.#slabs.release(slab);
	}

	#takeOld(write: number, length: number): void {
		this.#oldSlabs[write] = this.#take(length);
		this.#oldStarts[write] = this.#slabs.start;
		this.#oldLengths[write] = length;
	}

	/** Gives the number of the slab. */
	#take(length: number): number {
		this.#slabs.take(length);
		const used = this.#used;
		const { slab } = this.#slabs;
		// Of large pieces, which have slabs of their own, one may come between two of the shared slab: that counts twice then.
		if (used.length === 0 || used[used.length - 1] !== slab) used.push(slab);
		return used.length - 1;
	}

	#add(write: number, key: string, flags: number, slab: number, length: number): void {
		const row = this.#count * ROW_WORDS;
		const rows = this.#rows;
		const oldLength = this.#oldLengths[write]!;
		const hasOld = oldLength > 0;
		rows[row] = write | ((hasOld ? flags | HAS_OLD : flags) << 16);
		rows[row + 1] = hasOld ? slab | (this.#oldSlabs[write]! << 16) : slab;
		rows[row + 2] = this.#slabs.start;
		rows[row + 3] = length;
		rows[row + 4] = this.#oldStarts[write]!;
		rows[row + 5] = oldLength;
		this.#keys[this.#count++] = key;
		this.#bytes += key.length + length + oldLength;
	}
}
