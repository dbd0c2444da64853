import type { KvEntry } from "../state/kv-store.ts";
import { varintSize, writeVarint } from "../wire/varint.ts";
import { WireReader } from "../wire/wire-reader.ts";
import { readTimestamp, timeSize, writeTime } from "../wire/wire-time.ts";
import { payloadBytes } from "./payload-wire.ts";
import { type EntryFacts, fieldSize, REVISIONS_BYTES, StoredEntry } from "./stored-entry.ts";

/** What is to be stored of an entry. */
export interface EntryDraft extends Omit<EntryFacts, "bytes"> {
	readonly key: string;
	/** A `Payload` in wire form. */
	readonly value: Uint8Array;
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

/** Encodes an entry that is to be stored. */
export function encodeEntry(draft: EntryDraft): StoredEntry {
	const { key, value, createTime, updateTime, expireTime, writer, instanceId, transactionId, older } = draft;
	const keyBytes = Buffer.byteLength(key);
	const createBytes = timeSize(createTime);
	const updateBytes = timeSize(updateTime);
	const expireBytes = expireTime === 0 ? 0 : timeSize(expireTime);
	const size =
		fieldSize(keyBytes) +
		fieldSize(value.byteLength) +
		fieldSize(createBytes) +
		fieldSize(updateBytes) +
		(expireTime === 0 ? 0 : fieldSize(expireBytes)) +
		fieldSize(writer.length) +
		(instanceId === "" ? 0 : fieldSize(instanceId.length));
	let olderBytes = 0;
	for (const revision of older) olderBytes += varintSize(revision);
	const head =
		(transactionId === "" ? 0 : fieldSize(transactionId.length)) + (olderBytes === 0 ? 0 : fieldSize(olderBytes));
	const start = head + 1 + varintSize(size);
	const buffer = Buffer.allocUnsafe(start + size + REVISIONS_BYTES);
	let at = 0;
	if (transactionId !== "") at = writeText(buffer, at, RECORD_TRANSACTION, transactionId, transactionId.length);
	if (olderBytes > 0) {
		at = writeHeader(buffer, at, RECORD_OLDER, olderBytes);
		for (const revision of older) at = writeVarint(buffer, at, revision);
	}
	at = writeHeader(buffer, at, RECORD_ENTRY, size);
	at = writeText(buffer, at, KEY, key, keyBytes);
	const valueStart = writeHeader(buffer, at, VALUE, value.byteLength);
	buffer.set(value, valueStart);
	const valueEnd = valueStart + value.byteLength;
	at = writeTime(buffer, writeHeader(buffer, valueEnd, CREATE_TIME, createBytes), createTime);
	at = writeTime(buffer, writeHeader(buffer, at, UPDATE_TIME, updateBytes), updateTime);
	if (expireTime !== 0) at = writeTime(buffer, writeHeader(buffer, at, EXPIRE_TIME, expireBytes), expireTime);
	at = writeText(buffer, at, WRITER, writer, writer.length);
	if (instanceId !== "") at = writeText(buffer, at, INSTANCE, instanceId, instanceId.length);
	const bytes = keyBytes + payloadBytes(value);
	return new StoredEntry(
		{ bytes, createTime, updateTime, expireTime, writer, instanceId, transactionId, older },
		{ buffer, start, end: at, valueStart, valueEnd },
		buffer.subarray(0, at),
	);
}

/** Reads what is stored. Throws on bytes that are no record. */
export function decodeEntry({ value, revision, createRevision }: KvEntry): StoredEntry {
	const record = new WireReader(value);
	let transactionId = "";
	let older = NONE;
	let start = 0;
	let length = 0;
	for (let field = record.next(); field !== 0; field = record.next()) {
		if (field === 1) {
			const end = record.delimited();
			start = record.pos;
			length = end - start;
			record.pos = end;
		} else if (field === 2) transactionId = record.string();
		else if (field === 3) older = readRevisions(record.nested());
		else record.skip();
	}
	const buffer = Buffer.allocUnsafe(length + REVISIONS_BYTES);
	buffer.set(value.subarray(start, start + length));
	const stored = readEntry(buffer, length, transactionId, older);
	stored.settle(revision, createRevision);
	return stored;
}

function readEntry(buffer: Buffer, length: number, transactionId: string, older: readonly number[]): StoredEntry {
	const reader = new WireReader(buffer, 0, length);
	let keyBytes = 0;
	let valueStart = 0;
	let valueEnd = 0;
	let createTime = 0;
	let updateTime = 0;
	let expireTime = 0;
	let writer = "";
	let instanceId = "";
	for (let field = reader.next(); field !== 0; field = reader.next()) {
		switch (field) {
			case 1: {
				const end = reader.delimited();
				keyBytes = end - reader.pos;
				reader.pos = end;
				break;
			}
			case 2:
				valueEnd = reader.delimited();
				valueStart = reader.pos;
				reader.pos = valueEnd;
				break;
			case 3:
				createTime = readTimestamp(reader.nested(), "create_time");
				break;
			case 4:
				updateTime = readTimestamp(reader.nested(), "update_time");
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
	const bytes = keyBytes + payloadBytes(buffer.subarray(valueStart, valueEnd));
	return new StoredEntry(
		{ bytes, createTime, updateTime, expireTime, writer, instanceId, transactionId, older },
		{ buffer, start: 0, end: length, valueStart, valueEnd },
		undefined,
	);
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
