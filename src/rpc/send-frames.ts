import { CONTENT_LIMITS } from "../content/content-limits.ts";
import { HubError } from "../hub-error.ts";
import type { RecipientAddress } from "../messaging/address.ts";
import { parsePluginId } from "../subjects/plugin-id.ts";
import { WireReader } from "../wire/wire-reader.ts";
import { readDuration } from "../wire/wire-time.ts";

/** What somebody wants sent, in wire form and not yet checked beyond that. */
export interface SendView {
	/** On a stream; 0 elsewhere. */
	readonly entryId: number | bigint;
	/** `Address`; undefined: absent. */
	readonly to: Uint8Array | undefined;
	/** `Message`; undefined: absent. */
	readonly message: Uint8Array | undefined;
	/** Undefined: absent. */
	readonly durability: number | undefined;
	/** Milliseconds, NaN where it is no duration; undefined: absent. */
	readonly timeoutMs: number | undefined;
}

/** Where a request message keeps what `SendView` holds; -1: nowhere. */
export interface SendLayout {
	readonly entryId: number;
	readonly to: number;
	readonly message: number;
	readonly durability: number;
	readonly timeout: number;
}

export const SEND_REQUEST: SendLayout = { entryId: -1, to: 1, message: 2, durability: 3, timeout: -1 };
export const REQUEST_REQUEST: SendLayout = { entryId: -1, to: 1, message: 2, durability: -1, timeout: 3 };
const SEND_ENTRY: SendLayout = { entryId: 1, to: 2, message: 3, durability: 4, timeout: 5 };

export function readSend(reader: WireReader, layout: SendLayout): SendView {
	let entryId: number | bigint = 0;
	let to: Uint8Array | undefined;
	let message: Uint8Array | undefined;
	let durability: number | undefined;
	let timeoutMs: number | undefined;
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		if (number === layout.to) to = merged(to, addressView(reader));
		else if (number === layout.message) message = merged(message, reader.view());
		else if (number === layout.entryId) entryId = reader.uint64();
		else if (number === layout.durability) durability = reader.number();
		else if (number === layout.timeout) timeoutMs = readDuration(reader.nested());
		else reader.skip();
	}
	return { entryId, to, message, durability, timeoutMs };
}

/** A frame of `SendStream`. */
export type SendFrame =
	| { readonly kind: "batch"; readonly entries: readonly SendView[] }
	| { readonly kind: "cancel"; readonly entryId: number | bigint };

/** Refuses what is no frame, and a batch of none or too many entries. */
export function readSendFrame(bytes: Uint8Array): SendFrame {
	const reader = new WireReader(bytes);
	let entries: SendView[] | undefined;
	let cancel: number | bigint | undefined;
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		if (number === 1) {
			entries = readBatch(reader.nested(), entries ?? []);
			cancel = undefined;
		} else if (number === 2) {
			cancel = readCancel(reader.nested());
			entries = undefined;
		} else {
			reader.skip();
		}
	}
	if (cancel !== undefined) return { kind: "cancel", entryId: cancel };
	if (entries === undefined) throw HubError.field("frame", "must be set");
	if (entries.length === 0) throw HubError.field("batch.entries", "is empty");
	return { kind: "batch", entries };
}

function readBatch(reader: WireReader, entries: SendView[]): SendView[] {
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		if (number !== 1) {
			reader.skip();
			continue;
		}
		if (entries.length === CONTENT_LIMITS.batchEntries) {
			throw HubError.field("batch.entries", `has more than ${CONTENT_LIMITS.batchEntries} entries`);
		}
		const outer = reader.enter();
		entries.push(readSend(reader, SEND_ENTRY));
		reader.leave(outer);
	}
	return entries;
}

function readCancel(reader: WireReader): number | bigint {
	let entryId: number | bigint = 0;
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		if (number === 1) entryId = reader.uint64();
		else reader.skip();
	}
	return entryId;
}

const KINDS = [undefined, "plugin", "capability", "alias"] as const;
const FIELDS = { plugin: "plugin_id", capability: "capability", alias: "alias" } as const;
const MAX_NAME_BYTES = 256;

/** The address that was read last, with the bytes that say it: a sender's messages mostly go to one recipient for a while. */
let lastBytes: Uint8Array = new Uint8Array();
let lastAddress: RecipientAddress | undefined;

/** The bytes of an address: those that were read last where they are the same, so that a message needs no view of its own. */
function addressView(reader: WireReader): Uint8Array {
	const end = reader.delimited();
	const { bytes, pos } = reader;
	reader.pos = end;
	return isSame(bytes, pos, end, lastBytes) ? lastBytes : bytes.subarray(pos, end);
}

/** Reads an `Address`. Refuses one that is absent, empty, or names what cannot be a plugin id. */
export function readAddress(bytes: Uint8Array | undefined, field: string): RecipientAddress {
	if (bytes === undefined) throw HubError.field(field, "is required");
	if (lastAddress !== undefined && isSame(bytes, 0, bytes.byteLength, lastBytes)) return lastAddress;
	const address = parseAddress(bytes, field);
	if (bytes.byteLength <= MAX_NAME_BYTES) {
		lastBytes = new Uint8Array(bytes);
		lastAddress = address;
	}
	return address;
}

function isSame(a: Uint8Array, start: number, end: number, b: Uint8Array): boolean {
	if (a === b) return true;
	if (end - start !== b.byteLength) return false;
	for (let at = 0; at < b.byteLength; at++) if (a[start + at] !== b[at]) return false;
	return true;
}

function parseAddress(bytes: Uint8Array, field: string): RecipientAddress {
	const reader = new WireReader(bytes);
	let address: RecipientAddress | undefined;
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		const kind = KINDS[number];
		if (kind === undefined) reader.skip();
		else address = { kind, name: reader.string() };
	}
	if (address === undefined) throw HubError.field(field, "must name a plugin, a capability or an alias");
	const { kind, name } = address;
	if (kind === "plugin") parsePluginId(name, `${field}.plugin_id`);
	else if (name === "" || name.length > MAX_NAME_BYTES) {
		throw HubError.field(`${field}.${FIELDS[kind]}`, `must have 1 to ${MAX_NAME_BYTES} characters`);
	}
	return address;
}

/** A message field that comes twice is merged, and appending its bytes is what merging means. */
export function merged(before: Uint8Array | undefined, bytes: Uint8Array): Uint8Array {
	return before === undefined ? bytes : Buffer.concat([before, bytes]);
}

/** Whether the failure of one entry means that the frame itself is broken. */
export function breaksFrame(error: unknown): boolean {
	return !(error instanceof HubError) || error.reason === "MALFORMED_REQUEST";
}
