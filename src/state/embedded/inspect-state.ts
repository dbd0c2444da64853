import { decodeKvRecord, kvValue } from "../kv-record.ts";
import type { StoredRecord } from "../log-store.ts";
import { StateOpenError } from "../state-backend.ts";
import { Block } from "./block.ts";
import { type Environment, EVERY_KEY } from "./environment.ts";
import { LAST_SEQUENCE, LogKeys } from "./log-keys.ts";
import { type LogIdentity, readLogState } from "./log-state.ts";
import { storedRevision } from "./stored-revision.ts";

/** Looks at what is stored, one after the other. A throw ends the inspection: what is thrown says what is wrong. */
export interface StateVisitor {
	entry(key: string, value: Uint8Array): void;
	record(log: string, record: StoredRecord): void;
}

/** What an environment holds. */
export interface StateInspection {
	/** Keys of the keyspace. */
	readonly entries: number;
	/** The revision of the keyspace. */
	readonly revision: number;
	readonly logs: readonly { readonly name: string; readonly blocks: number; readonly records: number }[];
}

/**
 * Reads everything that is stored: that keys and records are of their form, the logs whole from their first sequence to their
 * last, and their indexes about blocks that are there. Throws `StateOpenError` of kind `damaged`. Holds up the event loop for as
 * long as reading takes.
 */
export function inspectState(environment: Environment, visitor: StateVisitor): StateInspection {
	const logs = logIdentities(environment);
	return {
		...inspectKeyspace(environment, visitor),
		logs: [...logs].map(([name, identity]) => inspectLog(environment, name, identity, visitor)),
	};
}

/** The logs by name. */
export function logIdentities({ meta, blocks }: Environment): ReadonlyMap<string, LogIdentity> {
	const logs = new Map<string, LogIdentity>();
	for (const { key, value } of meta.getRange({ start: Buffer.from("log/"), end: Buffer.from("log0") })) {
		const name = Buffer.from(key).toString().slice("log/".length);
		logs.set(
			name,
			whole(`the log ${name}`, () => JSON.parse(Buffer.from(value).toString()) as LogIdentity),
		);
	}
	const numbers = new Set([...logs.values()].map(({ number }) => number));
	for (const key of blocks.getKeys({})) {
		const number = key.byteLength === 8 ? Buffer.from(key).readUInt16BE(0) : undefined;
		if (number === undefined || !numbers.has(number)) throw damaged("a block is of no log");
	}
	return logs;
}

function inspectKeyspace({ kv, meta, outcomes }: Environment, visitor: StateVisitor) {
	const revision = storedRevision(meta);
	let entries = 0;
	for (const { key: bytes, value: stored } of kv.getRange(EVERY_KEY)) {
		const key = Buffer.from(bytes as Uint8Array).toString();
		const what = `the key ${JSON.stringify(key.slice(0, 200))}`;
		if (!Buffer.from(key).equals(bytes as Uint8Array)) throw damaged(`${what} is no UTF-8`);
		if (stored.byteLength < 16) throw damaged(`${what} holds no record`);
		const record = decodeKvRecord(Buffer.from(stored));
		const isSound =
			record.createRevision >= 1 && record.createRevision <= record.revision && record.revision <= revision;
		if (!isSound || !Number.isSafeInteger(record.revision)) throw damaged(`${what} has impossible revisions`);
		whole(what, () => visitor.entry(key, kvValue(Buffer.from(stored))));
		entries++;
	}
	for (const { key, value } of outcomes.getRange({})) {
		const group = whole("the outcomes of commits", () => JSON.parse(Buffer.from(value).toString()) as unknown);
		if (key.byteLength !== 6 || !Array.isArray(group)) throw damaged("the outcomes of commits are not of their form");
	}
	return { entries, revision };
}

function inspectLog(environment: Environment, name: string, identity: LogIdentity, visitor: StateVisitor) {
	const { meta, blocks } = environment;
	const keys = new LogKeys(identity.number);
	const state = readLogState(meta, identity.number);
	const what = `the log ${name}`;
	let next: number | undefined;
	let count = 0;
	let records = 0;
	for (const { key, value } of blocks.getRange({ start: keys.at(0), end: keys.at(LAST_SEQUENCE) })) {
		whole(what, () => {
			const block = new Block(Buffer.from(value), false);
			const isInOrder = next === undefined ? block.first <= state.first : block.first === next;
			if (!isInOrder || block.first !== keys.sequenceOf(key) || !block.isWhole) {
				throw damaged(`${what} has no whole block at ${block.first}`);
			}
			for (let index = 0; index < block.count; index++) visitor.record(name, block.record(index));
			next = block.first + block.count;
			records += block.count;
			count++;
		});
	}
	if ((next ?? state.next) !== state.next) throw damaged(`${what} ends at ${next}, not at ${state.next}`);
	if (next === undefined && state.first !== state.next) throw damaged(`${what} has lost its blocks`);
	inspectIndexes(environment, keys, what);
	return { name, blocks: count, records };
}

function inspectIndexes({ blocks, topics, ids }: Environment, keys: LogKeys, what: string): void {
	const start = keys.at(0);
	const end = keys.at(LAST_SEQUENCE);
	// Keys of the index begin as those of blocks do.
	for (const { key, value } of topics.getRange({ start: start.subarray(0, 2), end: after(start.subarray(0, 2)) })) {
		const last = keys.sequenceOf(key);
		const isOfForm = key.byteLength === 16 && value.byteLength % 4 === 0 && last !== undefined;
		if (!isOfForm || blocks.getBinary(keys.at(last)) === undefined) throw damaged(`${what} has a broken index`);
	}
	for (const { value } of ids.getRange({ start, end })) {
		const entry = Buffer.from(value);
		const isOfForm = entry.byteLength >= 16 && entry.byteLength === 16 + entry.readUInt32LE(8) * 12;
		if (!isOfForm) throw damaged(`${what} has a broken list of ids`);
	}
}

function after(prefix: Uint8Array): Buffer {
	const next = Buffer.alloc(2);
	next.writeUInt16BE(Buffer.from(prefix).readUInt16BE(0) + 1);
	return next;
}

/** What `read` gives; whatever it throws says that the state is damaged. */
function whole<T>(what: string, read: () => T): T {
	try {
		return read();
	} catch (error) {
		if (error instanceof StateOpenError) throw error;
		throw new StateOpenError("damaged", `${what} cannot be read: ${(error as Error).message}`, error);
	}
}

function damaged(message: string): StateOpenError {
	return new StateOpenError("damaged", message);
}
