import type { LogBlock } from "../log-page.ts";
import type { LogRecord, StoredRecord } from "../log-store.ts";

/**
 * A block is a run of records that one group stored, as one LMDB value. Little-endian:
 *
 *   0 u8 version, 2 u16 records, 4 u16 topics, 8 f64 first sequence, 16 f64 time, 24 u32 topic bytes, 28 u32 id bytes
 *   32 u32 end of each record's bytes, u16 topic of each, u8 id length of each (UTF-16 units)
 *   then per topic u16 length and UTF-8, the ids as one UTF-8 text, the records' bytes
 */
const VERSION = 1;
const HEADER_BYTES = 32;
const PER_RECORD_BYTES = 7;

/** About how large a block becomes; a single larger record still makes one. */
export const BLOCK_BYTES = 64 * 1024 - 1024;

/** What `encodeBlock` needs beyond a record's bytes, at most. */
export function recordSize(record: LogRecord): number {
	return record.bytes.byteLength + record.id.length + PER_RECORD_BYTES;
}

/** A block ready to be stored. */
export interface EncodedBlock {
	readonly first: number;
	readonly bytes: Buffer;
	/** The distinct topics. */
	readonly topics: readonly string[];
}

/** Encodes `records[start..end)`, at most 1,000, all of one time. */
export function encodeBlock(
	records: readonly LogRecord[],
	start: number,
	end: number,
	place: { readonly first: number; readonly time: number },
): EncodedBlock {
	const count = end - start;
	const topics = new Map<string, number>();
	let ids = "";
	let payloadBytes = 0;
	for (let index = start; index < end; index++) {
		const record = records[index]!;
		if (!topics.has(record.topic)) topics.set(record.topic, topics.size);
		ids += record.id;
		payloadBytes += record.bytes.byteLength;
	}
	let topicBytes = 0;
	for (const topic of topics.keys()) topicBytes += 2 + Buffer.byteLength(topic);
	const idBytes = Buffer.byteLength(ids);
	const tables = HEADER_BYTES + count * PER_RECORD_BYTES;
	const block = Buffer.allocUnsafe(tables + topicBytes + idBytes + payloadBytes);
	block.fill(0, 0, 8);
	block[0] = VERSION;
	block.writeUInt16LE(count, 2);
	block.writeUInt16LE(topics.size, 4);
	block.writeDoubleLE(place.first, 8);
	block.writeDoubleLE(place.time, 16);
	block.writeUInt32LE(topicBytes, 24);
	block.writeUInt32LE(idBytes, 28);
	let at = tables;
	for (const topic of topics.keys()) {
		const written = block.write(topic, at + 2);
		block.writeUInt16LE(written, at);
		at += 2 + written;
	}
	at += block.write(ids, at);
	const payload = at;
	for (let index = 0; index < count; index++) {
		const record = records[start + index]!;
		block.set(record.bytes, at);
		at += record.bytes.byteLength;
		block.writeUInt32LE(at - payload, HEADER_BYTES + index * 4);
		block.writeUInt16LE(topics.get(record.topic)!, HEADER_BYTES + count * 4 + index * 2);
		block[HEADER_BYTES + count * 6 + index] = record.id.length;
	}
	return { first: place.first, bytes: block, topics: [...topics.keys()] };
}

/** A stored block, decoded as far as it is asked for. */
export class Block implements LogBlock {
	readonly first: number;
	readonly count: number;
	readonly time: number;
	/** The size of the stored value. */
	readonly byteLength: number;
	readonly #buffer: Buffer;
	/** Whether the buffer will be used again, so that what outlives this turn must be copied. */
	readonly #transient: boolean;
	#topics: string[] | undefined;
	#ids: string | undefined;
	/** Where the id of `#idIndex` starts in `#ids`. */
	#idIndex = 0;
	#idStart = 0;

	constructor(buffer: Buffer, transient: boolean) {
		if (buffer[0] !== VERSION) throw new Error(`a log block has version ${buffer[0]}, not ${VERSION}`);
		this.#buffer = buffer;
		this.#transient = transient;
		this.byteLength = buffer.length;
		this.count = buffer.readUInt16LE(2);
		this.first = buffer.readDoubleLE(8);
		this.time = buffer.readDoubleLE(16);
	}

	/** The distinct topics of the block. */
	get topics(): readonly string[] {
		this.#topics ??= this.#decodeTopics();
		return this.#topics;
	}

	topic(index: number): string {
		return this.topics[this.#buffer.readUInt16LE(HEADER_BYTES + this.count * 4 + index * 2)]!;
	}

	record(index: number): StoredRecord {
		const topic = this.topic(index);
		return { id: this.id(index), topic, bytes: this.bytes(index), sequence: this.first + index, time: this.time };
	}

	bytes(index: number): Uint8Array {
		const payload = this.#idsAt + this.#buffer.readUInt32LE(28);
		const start = payload + (index === 0 ? 0 : this.#buffer.readUInt32LE(HEADER_BYTES + (index - 1) * 4));
		const end = payload + this.#buffer.readUInt32LE(HEADER_BYTES + index * 4);
		if (!this.#transient) return this.#buffer.subarray(start, end);
		return new Uint8Array(this.#buffer.buffer, this.#buffer.byteOffset + start, end - start).slice();
	}

	id(index: number): string {
		const lengths = HEADER_BYTES + this.count * 6;
		this.#ids ??= this.#buffer.toString("utf8", this.#idsAt, this.#idsAt + this.#buffer.readUInt32LE(28));
		if (index < this.#idIndex) {
			this.#idIndex = 0;
			this.#idStart = 0;
		}
		while (this.#idIndex < index) this.#idStart += this.#buffer[lengths + this.#idIndex++]!;
		return this.#ids.slice(this.#idStart, this.#idStart + this.#buffer[lengths + index]!);
	}

	/** Whether the tables name places inside the block, its topics and records fill it, and nothing follows. */
	get isWhole(): boolean {
		const { count, byteLength } = this;
		if (count === 0 || byteLength < HEADER_BYTES + count * PER_RECORD_BYTES) return false;
		const payload = this.#idsAt + this.#buffer.readUInt32LE(28);
		let end = 0;
		for (let index = 0; index < count; index++) {
			const next = this.#buffer.readUInt32LE(HEADER_BYTES + index * 4);
			if (next < end || this.#buffer.readUInt16LE(HEADER_BYTES + count * 4 + index * 2) >= this.topics.length)
				return false;
			end = next;
		}
		return payload + end === byteLength;
	}

	get #idsAt(): number {
		return HEADER_BYTES + this.count * PER_RECORD_BYTES + this.#buffer.readUInt32LE(24);
	}

	#decodeTopics(): string[] {
		const topics: string[] = [];
		const count = this.#buffer.readUInt16LE(4);
		let at = HEADER_BYTES + this.count * PER_RECORD_BYTES;
		for (let index = 0; index < count; index++) {
			const start = at + 2;
			at = start + this.#buffer.readUInt16LE(at);
			topics.push(this.#buffer.toString("utf8", start, at));
		}
		return topics;
	}
}
