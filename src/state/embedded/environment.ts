import { closeSync, fchmodSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import type { Database, RootDatabase, RootDatabaseOptions } from "lmdb";
import { StateOpenError } from "../state-backend.ts";
import { textKeys } from "./text-keys.ts";

/** A database of byte keys and byte values. */
export type ByteDatabase = Database<Uint8Array, Uint8Array>;

/** A database of byte values whose keys are well-formed texts, in the order of their UTF-8 bytes. A range must say its ends. */
export type TextDatabase = Database<Uint8Array, string | Uint8Array>;

/** The LMDB environment of one state folder. */
export interface Environment {
	readonly directory: string;
	readonly root: RootDatabase;
	/** Format, logs and counters, by name. */
	readonly meta: ByteDatabase;
	/** The keyspace. */
	readonly kv: TextDatabase;
	/** Outcomes of the commits of one group, by the group's first revision. */
	readonly outcomes: ByteDatabase;
	/** Log blocks, by log and first sequence. */
	readonly blocks: ByteDatabase;
	/** Which blocks hold a topic, by log, topic hash and last block. */
	readonly topics: ByteDatabase;
	/** Hashes of the ids that one group stored, by log and first sequence. */
	readonly ids: ByteDatabase;
}

/** The version of everything stored here. A change that an older hub would misread raises it. */
export const FORMAT_VERSION = 1;

const FORMAT_KEY = Buffer.from("format");
const DATABASES = 8;
const MAGIC = 0xbeefc0de;
const MAGIC_AT = 24;

const TEXT_OPTIONS: RootDatabaseOptions = { keyEncoder: textKeys, encoding: "binary" };

/** All keys of a `TextDatabase`. */
export const EVERY_KEY = Object.freeze({ start: undefined, end: undefined });

/** Opens or creates the data in a folder whose lock is held. */
export async function openEnvironment(directory: string): Promise<Environment> {
	const { open } = await import("lmdb");
	const path = join(directory, "state.mdb");
	checkMagic(path);
	hideFromOthers([path, `${path}-lock`]);
	let root: RootDatabase;
	try {
		root = open({
			path,
			// The defaults show data before it is flushed, and a failed commit ends the process.
			overlappingSync: false,
			eventTurnBatching: false,
			maxDbs: DATABASES,
			keyEncoding: "binary",
			encoding: "binary",
		});
	} catch (cause) {
		const message = cause instanceof Error ? cause.message : String(cause);
		const damaged = /MDB_(INVALID|CORRUPTED|PAGE_NOTFOUND|VERSION_MISMATCH)/.test(message);
		const what = damaged ? "does not hold readable state" : "cannot be opened";
		throw new StateOpenError(damaged ? "damaged" : "unusable", `${directory} ${what}: ${message}`, cause);
	}
	try {
		const database = (name: string): ByteDatabase =>
			root.openDB<Uint8Array, Uint8Array>(name, { keyEncoding: "binary", encoding: "binary" });
		const meta = database("meta");
		await checkFormat(directory, meta);
		return {
			directory,
			root,
			meta,
			kv: root.openDB<Uint8Array, string | Uint8Array>("kv", TEXT_OPTIONS),
			outcomes: database("outcomes"),
			blocks: database("blocks"),
			topics: database("topics"),
			ids: database("ids"),
		};
	} catch (error) {
		await root.close();
		throw error;
	}
}

/** LMDB's mark in the first page, where `lmdb` 3 has it. The library ends the process over a file without it. */
function checkMagic(path: string): void {
	let fd: number;
	try {
		fd = openSync(path, "r");
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
		throw new StateOpenError("unusable", `${path} cannot be read`, error);
	}
	try {
		const head = Buffer.alloc(MAGIC_AT + 4);
		const read = readSync(fd, head, 0, head.length, 0);
		if (read > 0 && head.readUInt32LE(MAGIC_AT) !== MAGIC) {
			throw new StateOpenError("damaged", `${path} does not hold readable state`);
		}
	} finally {
		closeSync(fd);
	}
}

/**
 * Makes the files, or what is there of them, readable by their owner alone: they hold the key that credentials are signed
 * with, and the folder may have been made by somebody who lets others look into it.
 */
function hideFromOthers(paths: readonly string[]): void {
	for (const path of paths) {
		let fd: number | undefined;
		try {
			fd = openSync(path, "a", 0o600);
			fchmodSync(fd, 0o600);
		} catch (error) {
			throw new StateOpenError("unusable", `${path} cannot be written, or not be hidden from other users`, error);
		} finally {
			if (fd !== undefined) closeSync(fd);
		}
	}
}

async function checkFormat(directory: string, meta: ByteDatabase): Promise<void> {
	const stored = meta.getBinary(FORMAT_KEY);
	if (stored === undefined) {
		const used = [...meta.getKeys({ limit: 1 })].length > 0;
		if (used) throw new StateOpenError("damaged", `${directory} holds state without a format version`);
		await meta.put(FORMAT_KEY, Buffer.from(String(FORMAT_VERSION)));
		return;
	}
	const version = Number(stored.toString());
	if (!Number.isInteger(version) || version < 1) {
		throw new StateOpenError("damaged", `${directory} holds state with an unreadable format version`);
	}
	if (version > FORMAT_VERSION) {
		throw new StateOpenError(
			"newer-version",
			`${directory} holds state of format ${version}; this hub reads formats up to ${FORMAT_VERSION}`,
		);
	}
}
