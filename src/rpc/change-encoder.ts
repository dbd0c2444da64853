import { fromBinary } from "@bufbuild/protobuf";
import { EntryEndNoteSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import { ChangeCause } from "#gen/qirvo/hub/v1/entries_pb.js";
import type { KvChange } from "../state/kv-store.ts";
import { decodeEntry } from "../stores/entry-record.ts";
import type { StoredEntry } from "../stores/stored-entry.ts";
import type { ToldChange } from "../stores/told-changes.ts";
import { WireWriter } from "../wire/wire-writer.ts";

/** Half of what is kept of encoded changes, in bytes. */
const GENERATION_BYTES = 4 * 1024 * 1024;

interface EncodedChange {
	/** Of its record. */
	readonly key: string;
	readonly bytes: Uint8Array;
}

/** What of a change is not in its entries. */
interface Facts {
	readonly actor: string;
	readonly cause: ChangeCause;
	readonly transactionId: string;
	/** Milliseconds since the Unix epoch. */
	readonly time: number;
}

/**
 * Changes of entries in wire form, as elements of `EntryChangeBatch.changes`. A change that many watches tell is encoded once:
 * the newest are kept, up to 8 MiB of them, which is what those who keep up ask for.
 */
export class ChangeEncoder {
	/** By revision, which is that of one change in each of the keyspaces. */
	#young = new Map<number, EncodedChange>();
	#old = new Map<number, EncodedChange>();
	#bytes = 0;

	/** `keyOffset`: where the key of the entry begins in the key of its record. */
	encode(told: ToldChange, keyOffset: number): Uint8Array {
		if (told.coalesced > 0) return encodeChange(told, keyOffset);
		const { key, revision } = told.last;
		const known = this.#young.get(revision) ?? this.#old.get(revision);
		// The key of a record names the life of a store, which is in one keyspace.
		if (known?.key === key) return known.bytes;
		const bytes = encodeChange(told, keyOffset);
		this.#keep(revision, { key, bytes });
		return bytes;
	}

	#keep(revision: number, encoded: EncodedChange): void {
		if (this.#bytes + encoded.bytes.byteLength > GENERATION_BYTES) {
			this.#old = this.#young;
			this.#young = new Map();
			this.#bytes = 0;
		}
		this.#young.set(revision, encoded);
		this.#bytes += encoded.bytes.byteLength;
	}
}

function encodeChange({ first, last, coalesced }: ToldChange, keyOffset: number): Uint8Array {
	const { value, revision, createRevision } = last;
	const entry = value && decodeEntry({ key: last.key, value, revision, createRevision });
	const previous = previousOf(first);
	const { actor, cause, transactionId, time } = entry === undefined ? endOf(last) : factsOf(entry);
	const size = (entry?.wire.byteLength ?? 0) + (previous?.wire.byteLength ?? 0) + last.key.length * 3;
	const change = new WireWriter(size + 256);
	change.string(1, last.key.slice(keyOffset));
	if (entry !== undefined) change.bytes(2, entry.wire);
	if (previous !== undefined) change.bytes(3, previous.wire);
	change.varint(4, revision);
	if (actor !== "") change.string(5, actor);
	change.varint(6, cause);
	if (transactionId !== "") change.string(7, transactionId);
	change.time(8, time);
	if (coalesced > 0) change.varint(9, coalesced);
	// In memory that small buffers share: it is kept for a while, and there are many.
	const element = new WireWriter(change.length + 16);
	element.bytes(2, change.finish());
	return element.finish();
}

/** Of one life of a key, the old value and the new one were brought to life by the same write. */
function previousOf({ key, oldValue, oldRevision, createRevision }: KvChange): StoredEntry | undefined {
	return oldValue && decodeEntry({ key, value: oldValue, revision: oldRevision, createRevision });
}

function factsOf({ facts, updateTime }: StoredEntry): Facts {
	const { writer, transactionId } = facts;
	return { actor: writer, cause: ChangeCause.SET, transactionId, time: updateTime };
}

function endOf({ note }: KvChange): Facts {
	const { actor, cause, transactionId, timeMs } = fromBinary(EntryEndNoteSchema, note ?? new Uint8Array());
	return { actor, cause: cause || ChangeCause.DELETED, transactionId, time: Number(timeMs) };
}
