import type { KvEntry } from "../state/kv-store.ts";
import { varintSize, writeVarint } from "../wire/varint.ts";
import { WireReader } from "../wire/wire-reader.ts";
import { readTimestamp, timeSize, writeTime } from "../wire/wire-time.ts";
import type { ByteSlabs } from "./byte-slabs.ts";
import { payloadBytes } from "./payload-wire.ts";
import { type EntryFacts, type EntryPlace, fieldSize, REVISIONS_BYTES, StoredEntry } from "./stored-entry.ts";

/** What is to be stored of an entry. Times are milliseconds since the Unix epoch. */
export interface EntryDraft {
	readonly key: string;
	/** A `Payload` in wire form. */
	readonly value: Uint8Array;
	/** When it came to be, or what it replaces. */
	readonly created: number | StoredEntry;
	readonly updateTime: number;
	readonly facts: EntryFacts;
}

/** Tags of `Entry` and `EntryRecord`. */
const KEY = 0x0a;
const VALUE = 0x12;
const CREATE_TIME = 0x1a;
const UPDATE_TIME = 0x22;
const EXPIRE_TIME = 0x2a;
const WRITER = 0x32;
const INSTANCE = 0x3a;
const RECORD_ENTRY = 0x0a;
const RECORD_TRANSACTION = 0x12;
const RECORD_OLDER = 0x1a;

const NONE: readonly number[] = Object.freeze([]);

/** Where the entry is that is being encoded: it is copied into the entry, and there are many. */
const PLACE: { -readonly [K in keyof EntryPlace]: EntryPlace[K] } = {
	buffer: Buffer.alloc(0),
	record: 0,
	start: 0,
	end: 0,
	valueStart: 0,
	valueEnd: 0,
	created: 0,
};

/** Encodes an entry that is to be stored. */
export function encodeEntry({ key, value, created, updateTime, facts }: EntryDraft, slabs: ByteSlabs): StoredEntry {
	const { writer, instanceId, expireTime, transactionId, older } = facts;
	const keyBytes = Buffer.byteLength(key);
	const valueBytes = value.byteLength;
	const updateBytes = timeSize(updateTime);
	const expireBytes = expireTime === 0 ? 0 : timeSize(expireTime);
	const size =
		fieldSize(keyBytes) +
		fieldSize(valueBytes) +
		(typeof created === "number" ? fieldSize(timeSize(created)) : created.createdBytes) +
		fieldSize(updateBytes) +
		(expireTime === 0 ? 0 : fieldSize(expireBytes)) +
		fieldSize(writer.length) +
		(instanceId === "" ? 0 : fieldSize(instanceId.length));
	let olderBytes = 0;
	for (let i = 0; i < older.length; i++) olderBytes += varintSize(older[i]!);
	const head =
		(transactionId === "" ? 0 : fieldSize(transactionId.length)) + (olderBytes === 0 ? 0 : fieldSize(olderBytes));
	const record = slabs.take(head + 1 + varintSize(size) + size + REVISIONS_BYTES);
	const { buffer } = slabs;
	let at = record;
	if (transactionId !== "") at = writeText(buffer, at, RECORD_TRANSACTION, transactionId, transactionId.length);
	if (olderBytes > 0) {
		at = writeHeader(buffer, at, RECORD_OLDER, olderBytes);
		for (const revision of older) at = writeVarint(buffer, at, revision);
	}
	const start = writeHeader(buffer, at, RECORD_ENTRY, size);
	at = writeText(buffer, start, KEY, key, keyBytes);
	const valueStart = writeHeader(buffer, at, VALUE, valueBytes);
	buffer.set(value, valueStart);
	const valueEnd = valueStart + valueBytes;
	at =
		typeof created === "number"
			? writeTime(buffer, writeHeader(buffer, valueEnd, CREATE_TIME, timeSize(created)), created)
			: created.copyCreatedTo(buffer, valueEnd);
	at = writeTime(buffer, writeHeader(buffer, at, UPDATE_TIME, updateBytes), updateTime);
	if (expireTime !== 0) at = writeTime(buffer, writeHeader(buffer, at, EXPIRE_TIME, expireBytes), expireTime);
	at = writeText(buffer, at, WRITER, writer, writer.length);
	if (instanceId !== "") at = writeText(buffer, at, INSTANCE, instanceId, instanceId.length);
	const bytes = keyBytes + payloadBytes(buffer, valueStart, valueEnd);
	const place = PLACE;
	place.buffer = buffer;
	place.record = record;
	place.start = start;
	place.end = at;
	place.valueStart = valueStart;
	place.valueEnd = valueEnd;
	// Of what replaces an entry without this field, it has none either.
	place.created = typeof created === "number" || created.createdBytes > 0 ? valueEnd : -1;
	return new StoredEntry(facts, bytes, place);
}

/** Reads what is stored into memory that lives as long as the entry, or is shared with others. Throws on bytes that are no record. */
export function decodeEntry({ value, revision, createRevision }: KvEntry, slabs?: ByteSlabs): StoredEntry {
	const record = new WireReader(value);
	let transactionId = "";
	let older = NONE;
	let from = 0;
	let length = 0;
	for (let field = record.next(); field !== 0; field = record.next()) {
		if (field === 1) {
			const end = record.delimited();
			from = record.pos;
			length = end - from;
			record.pos = end;
		} else if (field === 2) transactionId = record.string();
		else if (field === 3) older = readRevisions(record.nested());
		else record.skip();
	}
	const start = slabs?.take(length + REVISIONS_BYTES) ?? 0;
	const buffer = slabs?.buffer ?? Buffer.allocUnsafe(length + REVISIONS_BYTES);
	record.bytes.copy(buffer, start, from, from + length);
	const stored = readEntry(buffer, start, start + length, transactionId, older);
	stored.settle(revision, createRevision);
	return stored;
}

function readEntry(
	buffer: Buffer,
	start: number,
	end: number,
	transactionId: string,
	older: readonly number[],
): StoredEntry {
	const reader = new WireReader(buffer, start, end);
	let keyBytes = 0;
	let valueStart = 0;
	let valueEnd = 0;
	let created = -1;
	let expireTime = 0;
	let writer = "";
	let instanceId = "";
	for (let field = reader.next(); field !== 0; field = reader.next()) {
		switch (field) {
			case 1:
				keyBytes = reader.skipped();
				break;
			case 2:
				valueEnd = reader.delimited();
				valueStart = reader.pos;
				reader.pos = valueEnd;
				break;
			case 3:
				created = reader.pos - 1;
				reader.skip();
				break;
			case 5:
				expireTime = readTimestamp(reader.nested(), "expire_time");
				break;
			case 6:
				writer = reader.string();
				break;
			case 7:
				instanceId = reader.string();
				break;
			default:
				reader.skip();
		}
	}
	const bytes = keyBytes + payloadBytes(buffer, valueStart, valueEnd);
	const facts = { writer, instanceId, expireTime, transactionId, older };
	return new StoredEntry(facts, bytes, { buffer, record: start, start, end, valueStart, valueEnd, created });
}

/** What an `Entry` in wire form says of itself. */
export function readPlain(plain: Uint8Array): {
	readonly key: string;
	readonly writer: string;
	readonly updateTime: number;
} {
	const reader = new WireReader(plain);
	let key = "";
	let writer = "";
	let updateTime = 0;
	for (let field = reader.next(); field !== 0; field = reader.next()) {
		if (field === 1) key = reader.string();
		else if (field === 4) updateTime = readTimestamp(reader.nested(), "update_time");
		else if (field === 6) writer = reader.string();
		else reader.skip();
	}
	return { key, writer, updateTime };
}

/** The numbers of a packed field. */
function readRevisions(reader: WireReader): readonly number[] {
	const revisions: number[] = [];
	while (reader.pos < reader.end) revisions.push(reader.varint());
	return revisions;
}

function writeHeader(target: Buffer, at: number, tag: number, length: number): number {
	target[at] = tag;
	return writeVarint(target, at + 1, length);
}

function writeText(target: Buffer, at: number, tag: number, text: string, bytes: number): number {
	const from = writeHeader(target, at, tag, bytes);
	// As many bytes as units: it is ASCII.
	return from + target.write(text, from, bytes === text.length ? "latin1" : "utf8");
}
