import { varintSize, writeVarint } from "../wire/varint.ts";

/** What an entry says beside its key and value. Times are milliseconds since the Unix epoch. */
export interface EntryFacts {
	/** Bytes that count against quotas. */
	readonly bytes: number;
	readonly createTime: number;
	readonly updateTime: number;
	/** 0: never. */
	readonly expireTime: number;
	readonly writer: string;
	/** Empty: it lives by none. */
	readonly instanceId: string;
	/** The transaction that wrote it. Empty: none. */
	readonly transactionId: string;
	/** The revisions of the versions before that are kept, the newest first. */
	readonly older: readonly number[];
}

/** Where an `Entry` without its revisions is, and its value in it; behind its end there is room for `REVISIONS_BYTES`. */
export interface EntryPlace {
	readonly buffer: Buffer;
	readonly start: number;
	readonly end: number;
	readonly valueStart: number;
	readonly valueEnd: number;
}

/** Two tags of two bytes and two revisions of at most eight. */
export const REVISIONS_BYTES = 20;

/**
 * An entry that is stored, or about to be.
 *
 * It is encoded once: `record` is what the keyspace holds, the entry is its end, and behind it there is room for the
 * revisions, which are known when it is stored. So what is written is also what reads give.
 */
export class StoredEntry {
	/** An `EntryRecord`. Only of an entry that was made here. */
	readonly record: Uint8Array | undefined;
	/** Bytes that count against quotas. */
	readonly bytes: number;
	readonly createTime: number;
	readonly updateTime: number;
	/** 0: never. */
	readonly expireTime: number;
	readonly writer: string;
	readonly instanceId: string;
	readonly transactionId: string;
	readonly older: readonly number[];
	readonly #buffer: Buffer;
	readonly #start: number;
	readonly #end: number;
	readonly #valueStart: number;
	readonly #valueEnd: number;
	#revision = 0;
	#createRevision = 0;
	#wire: Uint8Array | undefined;

	constructor(facts: EntryFacts, place: EntryPlace, record: Uint8Array | undefined) {
		this.record = record;
		this.bytes = facts.bytes;
		this.createTime = facts.createTime;
		this.updateTime = facts.updateTime;
		this.expireTime = facts.expireTime;
		this.writer = facts.writer;
		this.instanceId = facts.instanceId;
		this.transactionId = facts.transactionId;
		this.older = facts.older;
		this.#buffer = place.buffer;
		this.#start = place.start;
		this.#end = place.end;
		this.#valueStart = place.valueStart;
		this.#valueEnd = place.valueEnd;
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
		return this.expireTime !== 0 || this.instanceId !== "";
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

	/** About how much memory it takes. */
	get weight(): number {
		return this.#buffer.byteLength + 200;
	}

	/** Once, when it is known as which write it is stored. */
	settle(revision: number, createRevision: number): void {
		this.#revision = revision;
		this.#createRevision = createRevision;
	}
}

/** A field with a tag of one byte. */
export function fieldSize(length: number): number {
	return 1 + varintSize(length) + length;
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
