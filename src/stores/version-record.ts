import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
	type EntryEndNote,
	EntryEndNoteSchema,
	TombstoneRecordSchema,
	type VersionRecord,
	VersionRecordSchema,
} from "#gen/qirvo/hub/storage/v1/records_pb.js";
import { ChangeCause } from "#gen/qirvo/hub/v1/entries_pb.js";
import type { KvEntry } from "../state/kv-store.ts";
import { WireWriter } from "../wire/wire-writer.ts";
import { readPlain } from "./entry-record.ts";
import { fieldSize, type StoredEntry } from "./stored-entry.ts";

/** Why an entry is no longer there. */
export interface EntryEnd {
	/** The plugin that deleted it. Empty: the hub. */
	readonly actor: string;
	readonly cause: ChangeCause.DELETED | ChangeCause.EXPIRED | ChangeCause.LEASE_ENDED;
	/** Empty: none. */
	readonly transactionId: string;
	/** Milliseconds since the Unix epoch. */
	readonly time: number;
}

/** An `EntryEndNote`. */
export function encodeEndNote({ actor, cause, transactionId, time }: EntryEnd): Uint8Array {
	const note = create(EntryEndNoteSchema, { actor, cause, transactionId, timeMs: BigInt(time) });
	return toBinary(EntryEndNoteSchema, note);
}

/** A `VersionRecord` of what is about to be replaced, or to end. */
export function encodeVersion(entry: StoredEntry, end: Uint8Array | undefined): Uint8Array {
	const { plain, createRevision } = entry;
	const { transactionId } = entry.facts;
	const writer = new WireWriter(plain.byteLength + transactionId.length + (end?.byteLength ?? 0) + 48);
	writer.bytes(1, plain);
	if (transactionId !== "") writer.string(2, transactionId);
	writer.varint(3, createRevision);
	if (end !== undefined) writer.bytes(4, end);
	return writer.finish();
}

export function decodeVersion(value: Uint8Array): VersionRecord {
	return fromBinary(VersionRecordSchema, value);
}

/** A `TombstoneRecord`. */
export function encodeTombstone(older: readonly number[]): Uint8Array {
	return toBinary(TombstoneRecordSchema, create(TombstoneRecordSchema, { older: older.map(BigInt) }));
}

/** The revisions in it. */
export function decodeTombstone(value: Uint8Array): readonly number[] {
	return fromBinary(TombstoneRecordSchema, value).older.map(Number);
}

/** The present version of a key as an `EntryVersion`. */
export function presentVersion(entry: StoredEntry): Uint8Array {
	return setVersion(entry.revision, entry.updateTime, entry.facts.writer, entry.wire);
}

/** What a `VersionRecord` says: the version, and the deletion that ended it, if one did. The newest first. */
export function* oldVersions(
	{ value, revision: recordRevision }: KvEntry,
	revision: number,
): Generator<{ readonly revision: number; readonly version: Uint8Array }, void, undefined> {
	const record = decodeVersion(value);
	// The deletion is the write before that of the record.
	if (record.end !== undefined) {
		yield { revision: recordRevision - 1, version: endVersion(recordRevision - 1, record.end) };
	}
	const { writer, updateTime } = readPlain(record.entry);
	const wire = new WireWriter(record.entry.byteLength + 24);
	wire.append(record.entry);
	wire.varint(16, revision);
	wire.varint(17, record.createRevision);
	yield { revision, version: setVersion(revision, updateTime, writer, wire.finish()) };
}

function setVersion(revision: number, time: number, actor: string, entry: Uint8Array): Uint8Array {
	const writer = new WireWriter(entry.byteLength + fieldSize(actor.length) + 48);
	writer.varint(1, revision);
	writer.time(2, time);
	writer.string(3, actor);
	writer.varint(4, ChangeCause.SET);
	writer.bytes(5, entry);
	return writer.finish();
}

function endVersion(revision: number, { timeMs, actor, cause }: EntryEndNote): Uint8Array {
	const writer = new WireWriter(actor.length + 64);
	writer.varint(1, revision);
	writer.time(2, Number(timeMs));
	if (actor !== "") writer.string(3, actor);
	writer.varint(4, cause);
	return writer.finish();
}
