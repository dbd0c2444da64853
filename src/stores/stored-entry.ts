import type { KvBytes } from "../state/kv-store.ts";
import { varintSize, writeVarint } from "../wire/varint.ts";
import { WireReader } from "../wire/wire-reader.ts";
import { readTimestamp } from "../wire/wire-time.ts";
import type { ByteSlabs } from "./byte-slabs.ts";

/** What decides over an entry beside its value. Entries that are alike in it share one. */
export interface EntryFacts {
	readonly writer: string;
	/** Empty: it lives by none. */
	readonly instanceId: string;
	/** Milliseconds since the Unix epoch; 0: never. */
	readonly expireTime: number;
	/** The transaction that wrote it. Empty: none. */
	readonly transactionId: string;
	/** The revisions of the versions before that are kept, the newest first. */
	readonly older: readonly number[];
}

/** Where in a buffer things are; behind `end` there is room for `REVISIONS_BYTES`. */
export interface EntryPlace {
	readonly buffer: Buffer;
	/** Of the `EntryRecord`, of which the `Entry` without its revisions is the end. */
	readonly record: number;
	/** Of the `Entry`. */
	readonly start: number;
	readonly end: number;
	readonly valueStart: number;
	readonly valueEnd: number;
	/** The field of the time at which it came to be; -1: there is none. */
	readonly created: number;
}

/** Two tags of two bytes and two revisions of at most eight. */
export const REVISIONS_BYTES = 20;

/** Fields of `Entry`. */
const CREATE_TIME = 3;
const UPDATE_TIME = 4;

/**
 * An entry that is stored, or about to be.
 *
 * It is encoded once: its bytes are what the keyspace holds, the entry is their end, and behind it there is room for the
 * revisions, which are known when it is stored. So what is written is also what reads give. Hundreds of thousands are held, so
 * that it is one flat object: what is rarely asked for is read from the bytes.
 */
export class StoredEntry implements KvBytes {
	readonly facts: EntryFacts;
	/** Bytes that count against quotas. */
	readonly bytes: number;
	readonly #buffer: Buffer;
	readonly #record: number;
	readonly #start: number;
	readonly #end: number;
	readonly #valueStart: number;
	readonly #valueEnd: number;
	readonly #created: number;
	#revision = 0;
	#createRevision = 0;
	#wire: Uint8Array | undefined;

	constructor(facts: EntryFacts, bytes: number, place: EntryPlace) {
		this.facts = facts;
		this.bytes = bytes;
		this.#buffer = place.buffer;
		this.#record = place.record;
		this.#start = place.start;
		this.#end = place.end;
		this.#valueStart = place.valueStart;
		this.#valueEnd = place.valueEnd;
		this.#created = place.created;
	}

	/** Of the write that made it; 0 until it is stored. */
	get revision(): number {
		return this.#revision;
	}

	/** Of the write that brought its key to life. */
	get createRevision(): number {
		return this.#createRevision;
	}

	/** Whether it may end by itself. */
	get mayEnd(): boolean {
		return this.facts.expireTime !== 0 || this.facts.instanceId !== "";
	}

	/** Milliseconds since the Unix epoch. */
	get updateTime(): number {
		return this.#time(UPDATE_TIME);
	}

	/** The same. */
	get createTime(): number {
		return this.#time(CREATE_TIME);
	}

	/** The `Payload` in wire form, as a view. */
	get value(): Uint8Array {
		return this.#buffer.subarray(this.#valueStart, this.#valueEnd);
	}

	/** The `Entry` in wire form without its revisions, as a view. */
	get plain(): Uint8Array {
		return this.#buffer.subarray(this.#start, this.#end);
	}

	/** The `Entry` in wire form with its revisions, as a view. */
	get wire(): Uint8Array {
		if (this.#wire === undefined) {
			const end = writeRevisions(this.#buffer, this.#end, this.#revision, this.#createRevision);
			this.#wire = this.#buffer.subarray(this.#start, end);
		}
		return this.#wire;
	}

	/** The same without its value, as bytes of its own. */
	get wireWithoutValue(): Uint8Array {
		const { wire } = this;
		// The field begins behind the key, whose field is the first.
		const from = fieldSize(wire[1]! < 0x80 ? wire[1]! : (wire[1]! & 0x7f) | (wire[2]! << 7));
		const to = this.#valueEnd - this.#start;
		const rest = Buffer.allocUnsafe(from + wire.byteLength - to);
		rest.set(wire.subarray(0, from));
		rest.set(wire.subarray(to), from);
		return rest;
	}

	/** Of the `EntryRecord`. */
	get byteLength(): number {
		return this.#end - this.#record;
	}

	/** Copies the `EntryRecord`. */
	copyTo(target: Buffer, at: number): void {
		this.#buffer.copy(target, at, this.#record, this.#end);
	}

	/** The bytes of the field that says when it came to be. */
	get createdBytes(): number {
		return this.#created < 0 ? 0 : fieldEnd(this.#buffer, this.#created) - this.#created;
	}

	/** Copies that field, and gives the place behind it. */
	copyCreatedTo(target: Buffer, at: number): number {
		const bytes = this.createdBytes;
		for (let i = 0; i < bytes; i++) target[at + i] = this.#buffer[this.#created + i]!;
		return at + bytes;
	}

	/** Once, when it is known as which write it is stored. */
	settle(revision: number, createRevision: number): void {
		this.#revision = revision;
		this.#createRevision = createRevision;
	}

	/** The same entry in other memory. */
	movedTo(slabs: ByteSlabs): StoredEntry {
		const from = this.#start;
		const to = slabs.take(this.#end - from + REVISIONS_BYTES);
		const { buffer } = slabs;
		this.#buffer.copy(buffer, to, from, this.#end);
		const by = to - from;
		const moved = new StoredEntry(this.facts, this.bytes, {
			buffer,
			record: to,
			start: to,
			end: this.#end + by,
			valueStart: this.#valueStart + by,
			valueEnd: this.#valueEnd + by,
			created: this.#created < 0 ? -1 : this.#created + by,
		});
		moved.settle(this.#revision, this.#createRevision);
		return moved;
	}

	#time(field: number): number {
		const reader = new WireReader(this.#buffer, this.#start, this.#end);
		for (let number = reader.next(); number !== 0; number = reader.next()) {
			if (number === field) return readTimestamp(reader.nested(), "time");
			reader.skip();
		}
		return 0;
	}
}

/** A field with a tag of one byte. */
export function fieldSize(length: number): number {
	return 1 + varintSize(length) + length;
}

/** Where the field ends that begins here: one of a tag of one byte and fewer than 128 bytes. */
function fieldEnd(buffer: Buffer, at: number): number {
	return at + 2 + buffer[at + 1]!;
}

/** Fields 16 and 17 of `Entry`. */
function writeRevisions(target: Buffer, at: number, revision: number, createRevision: number): number {
	target[at] = 0x80;
	target[at + 1] = 0x01;
	const next = writeVarint(target, at + 2, revision);
	target[next] = 0x88;
	target[next + 1] = 0x01;
	return writeVarint(target, next + 2, createRevision);
}
