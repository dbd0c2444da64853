import { createReadStream } from "node:fs";
import { type FileHandle, mkdir, mkdtemp, open, readdir, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { IdSource } from "../../clock/clock.ts";
import { BackupDecoder, type BackupDescription, BackupError } from "../backup-file.ts";
import { decodeKvRecord, encodeKvRecord, kvValue } from "../kv-record.ts";
import { newEpoch } from "../log-epoch.ts";
import { StateOpenError } from "../state-backend.ts";
import { type Environment, EVERY_KEY, FORMAT_VERSION, openEnvironment } from "./environment.ts";
import { lockFolder } from "./folder-lock.ts";
import { inspectState, logIdentities, type StateInspection, type StateVisitor } from "./inspect-state.ts";
import { COPY_FOLDER } from "./state-copies.ts";
import { storedRevision, storeRevision } from "./stored-revision.ts";

/** What was read of a backup, all of it in order. */
export interface InspectedBackup extends StateInspection {
	readonly description: BackupDescription;
}

export interface RestoreOptions {
	readonly file: string;
	/** Made where it is missing; must be empty. */
	readonly directory: string;
	readonly ids: IdSource;
	/** Looks at everything before it counts. */
	readonly visitor: StateVisitor;
	/** The value of a key where it names the epoch of a log, which is another one now (`epochs`: old to new); else undefined. */
	readonly renew: (key: string, value: Uint8Array, epochs: ReadonlyMap<string, string>) => Uint8Array | undefined;
}

/** Where the state is restored to, until all of it is known to be good. */
const RESTORE_FOLDER = "restore.tmp";
/**
 * How far the revisions of a restored keyspace jump. More than any hub writes after a backup, so that no revision stands for two
 * writes: one that was lost with the old hub, and another of the new one. Below 2^48 for some thousand restores.
 */
const REVISION_JUMP = 2 ** 36;

/**
 * Makes the state of a backup that of an empty folder. The numbering of its feeds is a new one: whoever comes with a position, revision or
 * expectation of the old hub is told, and misses nothing in silence. Rejects with `BackupError` or `StateOpenError`, and
 * leaves nothing in the folder then; a crash leaves nothing that a hub would start on.
 */
export async function restoreEmbeddedState(options: RestoreOptions): Promise<InspectedBackup> {
	const { file, directory } = options;
	using _locked = await lockFolder(directory);
	const ours = new Set(["hub.lock", RESTORE_FOLDER, COPY_FOLDER]);
	const other = (await readdir(directory)).find((name) => !ours.has(name));
	if (other !== undefined) throw new StateOpenError("unusable", `${directory} is not empty: it has ${other}`);
	const folder = join(directory, RESTORE_FOLDER);
	await rm(folder, { recursive: true, force: true });
	await mkdir(folder, { mode: 0o700 });
	try {
		const inspected = await openBackup(file, folder, async (environment, description) => {
			const inspection = { description, ...inspectState(environment, options.visitor) };
			await renewNumbering(environment, options);
			return inspection;
		});
		await rename(join(folder, "state.mdb"), join(directory, "state.mdb"));
		await syncFolder(directory);
		return inspected;
	} finally {
		await rm(folder, { recursive: true, force: true });
	}
}

/**
 * Reads all of a backup, in a folder of its own below the system's temporary one (as large as the backup, 0700). Rejects with
 * `BackupError` or `StateOpenError` where something is wrong.
 */
export async function inspectBackup(file: string, visitor: StateVisitor): Promise<InspectedBackup> {
	const folder = await mkdtemp(join(tmpdir(), "hub-backup-"));
	try {
		return await openBackup(file, folder, async (environment, description) => ({
			description,
			...inspectState(environment, visitor),
		}));
	} finally {
		await rm(folder, { recursive: true, force: true });
	}
}

async function openBackup<T>(
	file: string,
	folder: string,
	use: (environment: Environment, description: BackupDescription) => Promise<T>,
): Promise<T> {
	const description = await extract(file, join(folder, "state.mdb"));
	if (description.stateFormat > FORMAT_VERSION) {
		const { stateFormat } = description;
		throw new BackupError(
			`the backup has state of format ${stateFormat}; this hub reads formats up to ${FORMAT_VERSION}`,
		);
	}
	const environment = await openEnvironment(folder);
	try {
		return await use(environment, description);
	} finally {
		await environment.root.close();
	}
}

/** Writes the copy that is in a backup to a file, and only then tells whether all of it is right. */
async function extract(file: string, to: string): Promise<BackupDescription> {
	const decoder = new BackupDecoder();
	const target = await open(to, "wx", 0o600);
	try {
		for await (const piece of createReadStream(file, { highWaterMark: 1024 * 1024 })) {
			await writeAll(target, decoder.push(piece as Uint8Array));
		}
		const description = decoder.finish();
		await target.sync();
		return description;
	} catch (error) {
		const { code } = error as NodeJS.ErrnoException;
		if (error instanceof BackupError || code === undefined) throw error;
		throw new BackupError(`${file} cannot be read, or not be written to ${to}: ${(error as Error).message}`, {
			cause: error,
		});
	} finally {
		await target.close();
	}
}

async function writeAll(target: FileHandle, bytes: Uint8Array): Promise<void> {
	for (let at = 0; at < bytes.byteLength; ) {
		at += (await target.write(bytes, at, bytes.byteLength - at)).bytesWritten;
	}
}

async function renewNumbering(environment: Environment, { ids, renew }: RestoreOptions): Promise<void> {
	const { root, meta, kv } = environment;
	const epochs = new Map<string, string>();
	const identities = [...logIdentities(environment)].map(([name, identity]) => {
		const epoch = newEpoch(ids.next());
		epochs.set(identity.epoch, epoch);
		return [Buffer.from(`log/${name}`), Buffer.from(JSON.stringify({ ...identity, epoch }))] as const;
	});
	const renewed: [Uint8Array, Uint8Array][] = [];
	for (const { key, value } of kv.getRange(EVERY_KEY)) {
		const stored = Buffer.from(value);
		const changed = renew(Buffer.from(key as Uint8Array).toString(), kvValue(stored), epochs);
		if (changed === undefined) continue;
		renewed.push([Buffer.from(key as Uint8Array), encodeKvRecord(decodeKvRecord(stored), changed)]);
	}
	await root.transaction(() => {
		for (const [key, value] of identities) meta.put(key, value);
		for (const [key, value] of renewed) kv.put(key, value);
		storeRevision(meta, storedRevision(meta) + REVISION_JUMP);
	});
}

async function syncFolder(directory: string): Promise<void> {
	const folder = await open(directory, "r");
	try {
		await folder.sync();
	} finally {
		await folder.close();
	}
}
