import { CONTENT_LIMITS } from "../content/content-limits.ts";
import { HubError } from "../hub-error.ts";
import type { ContentFacts } from "../security/content-rule.ts";
import type { ExpectedRevision } from "../state/expected-revision.ts";
import { parseStoreName } from "../subjects/store-name.ts";
import type { WireReader } from "../wire/wire-reader.ts";
import { readDuration } from "../wire/wire-time.ts";
import { type EntryValue, readEntryValue } from "./entry-value.ts";
import { readExpectedState } from "./expected-state.ts";
import { merged } from "./send-frames.ts";

/** Which entry something is about. */
export interface EntryAddress {
	readonly store: string;
	readonly key: string;
}

/** What somebody wants done to an entry: read from the wire, checked as far as it goes by itself, not yet admitted. */
export type EntryWriteRequest = SetRequest | DeleteRequest | IncrementRequest | AppendRequest;

/** How a write is called in frames and in the paths of errors. */
export type EntryWriteKind = EntryWriteRequest["kind"];

interface SetRequest extends EntryAddress {
	readonly kind: "set";
	readonly value: EntryValue;
	readonly expected: ExpectedRevision;
	/** Milliseconds; 0: for ever; undefined: the store's default. */
	readonly ttlMs: number | undefined;
	/** Empty: the entry lives by no instance. */
	readonly instanceId: string;
	readonly returnPrevious: boolean;
}

interface DeleteRequest extends EntryAddress {
	readonly kind: "delete";
	readonly expected: ExpectedRevision;
	readonly returnPrevious: boolean;
}

interface IncrementRequest extends EntryAddress {
	readonly kind: "increment";
	readonly delta: bigint;
	readonly ttlMs: number | undefined;
}

interface AppendRequest extends EntryAddress {
	readonly kind: "append";
	readonly element: string;
	readonly ttlMs: number | undefined;
}

const MAX_KEY_BYTES = 512;
const MAX_INSTANCE_BYTES = 128;
const MAX_TTL_MS = 3660 * 86_400_000;

const ANY: ExpectedRevision = Object.freeze({ kind: "any" });

/** The fields of `SetOperation`, `DeleteOperation`, `IncrementOperation` and `AppendOperation`, told apart by `kind`. */
export function readWrite(reader: WireReader, kind: EntryWriteKind): EntryWriteRequest {
	switch (kind) {
		case "set":
			return readSet(reader);
		case "delete":
			return readDelete(reader);
		case "increment":
			return readIncrement(reader);
		case "append":
			return readAppend(reader);
	}
}

/** What the content rules look at of a write; undefined: it brings no content. */
export function contentOf(write: EntryWriteRequest): ContentFacts | undefined {
	if (write.kind === "set") return write.value;
	if (write.kind !== "append") return undefined;
	return { bytes: Buffer.byteLength(write.element), json: write.element };
}

/** The fields of an address, which come first in each request that has one; `other` is called with each further one. */
export function readAddress(reader: WireReader, other: (number: number) => void = () => reader.skip()): EntryAddress {
	let store = "";
	let key = "";
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		if (number === 1) store = reader.string();
		else if (number === 2) key = readKey(reader);
		else other(number);
	}
	requireAddress(store, key);
	return { store, key };
}

function requireAddress(store: string, key: string): void {
	parseStoreName(store, "store");
	if (key === "") throw HubError.field("key", "is required");
}

/** The most frequent of all: without the callback that others read their fields with. */
function readSet(reader: WireReader): SetRequest {
	let store = "";
	let key = "";
	let wire: Uint8Array | undefined;
	let expected = ANY;
	let ttlMs: number | undefined;
	let instanceId = "";
	let returnPrevious = false;
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		switch (number) {
			case 1:
				store = reader.string();
				break;
			case 2:
				key = readKey(reader);
				break;
			case 3:
				wire = merged(wire, reader.view());
				break;
			case 4:
				expected = readExpectedState(reader.nested(), "expected");
				break;
			case 5:
				ttlMs = readTtl(reader.nested());
				break;
			case 6:
				instanceId = readInstance(reader);
				break;
			case 7:
				returnPrevious = reader.number() !== 0;
				break;
			default:
				reader.skip();
		}
	}
	requireAddress(store, key);
	return { kind: "set", store, key, value: readEntryValue(wire), expected, ttlMs, instanceId, returnPrevious };
}

function readDelete(reader: WireReader): DeleteRequest {
	let expected = ANY;
	let returnPrevious = false;
	const { store, key } = readAddress(reader, (number) => {
		if (number === 3) expected = readExpectedState(reader.nested(), "expected");
		else if (number === 4) returnPrevious = reader.number() !== 0;
		else reader.skip();
	});
	return { kind: "delete", store, key, expected, returnPrevious };
}

function readIncrement(reader: WireReader): IncrementRequest {
	let delta = 0;
	let ttlMs: number | undefined;
	const { store, key } = readAddress(reader, (number) => {
		if (number === 3) delta = reader.signed();
		else if (number === 4) ttlMs = readTtl(reader.nested());
		else reader.skip();
	});
	if (!Number.isSafeInteger(delta)) throw HubError.field("delta", "must be within -2^53+1 to 2^53-1");
	return { kind: "increment", store, key, delta: BigInt(delta), ttlMs };
}

function readAppend(reader: WireReader): AppendRequest {
	let element = "";
	let ttlMs: number | undefined;
	const { store, key } = readAddress(reader, (number) => {
		if (number === 3) element = reader.string();
		else if (number === 4) ttlMs = readTtl(reader.nested());
		else reader.skip();
	});
	if (element === "") throw HubError.field("element_json", "is required");
	return { kind: "append", store, key, element, ttlMs };
}

/** Refuses what cannot be a key, nor the beginning of one. */
export function parseKey(key: string, field: string): string {
	if (key === "") throw HubError.field(field, "is required");
	const bytes = Buffer.byteLength(key);
	if (bytes > MAX_KEY_BYTES) throw HubError.field(field, `has ${bytes} bytes; at most ${MAX_KEY_BYTES} are allowed`);
	return key;
}

function readKey(reader: WireReader): string {
	const start = reader.pos;
	const bytes = reader.delimited() - reader.pos;
	if (bytes > MAX_KEY_BYTES) throw HubError.field("key", `has ${bytes} bytes; at most ${MAX_KEY_BYTES} are allowed`);
	reader.pos = start;
	return reader.string();
}

function readInstance(reader: WireReader): string {
	const id = reader.string();
	if (id.length > MAX_INSTANCE_BYTES) {
		throw HubError.field("instance_id", `has more than ${MAX_INSTANCE_BYTES} characters`);
	}
	return id;
}

/** Whole milliseconds, rounded up: an entry lives as long as was asked, at least. */
function readTtl(reader: WireReader): number {
	const ms = readDuration(reader);
	if (ms === 0 || (ms >= 1 && ms <= MAX_TTL_MS)) return Math.ceil(ms);
	throw HubError.field("ttl", "must be 0, or 1 ms to 3,660 days");
}

/** The bytes that a write brings, for bounds of what is on its way. */
export function weightOf(write: EntryWriteRequest): number {
	if (write.kind === "set") return write.value.wire.byteLength;
	return write.kind === "append" ? write.element.length : 0;
}

/** The most of one value; a transaction holds as much in all. */
export const MAX_VALUE_BYTES: number = CONTENT_LIMITS.contentBytes;

/** What the reader of a missing entry is told. */
export function noSuchEntry({ store, key }: EntryAddress): HubError {
	return new HubError("ENTRY_NOT_FOUND", `store "${store}" has no entry of this key`, {
		metadata: { store, key },
		resource: { type: "entry", name: `${store}/${key}` },
	});
}
