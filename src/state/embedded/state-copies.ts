import { chmodSync, mkdirSync, statfsSync } from "node:fs";
import { type FileHandle, open, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { StorageError } from "../kv-store.ts";
import type { StateCopy } from "../state-backend.ts";
import { type Environment, FORMAT_VERSION } from "./environment.ts";

/** Where copies are made, below the state folder. What is in it is of no use once the process is gone. */
export const COPY_FOLDER = "backup.tmp";

const PIECE_BYTES = 256 * 1024;
/** Room that a copy leaves for the writes that go on beside it. */
const LEFT_FREE_BYTES = 64 * 1024 * 1024;

/**
 * Copies of an environment, made by LMDB from one snapshot on a thread of its own. The snapshot is held while the copy is made, not
 * while it is read: pages that are given up meanwhile cannot be used again, so the data grows by what is written in that time.
 */
export class StateCopies implements AsyncDisposable {
	readonly #environment: Environment;
	readonly #folder: string;
	readonly #running = new Set<Promise<unknown>>();
	#made = 0;

	constructor(environment: Environment) {
		this.#environment = environment;
		this.#folder = join(environment.directory, COPY_FOLDER);
	}

	/** Removes what a process left behind that ended while it copied. */
	async clear(): Promise<void> {
		await rm(this.#folder, { recursive: true, force: true });
	}

	async make(): Promise<StateCopy> {
		const path = join(this.#folder, `${++this.#made}.mdb`);
		const running = this.#copyTo(path);
		this.#running.add(running);
		try {
			await running;
			const { size } = await stat(path);
			return new CopyFile(path, size);
		} catch (error) {
			await rm(path, { force: true });
			throw storageError(error);
		} finally {
			this.#running.delete(running);
		}
	}

	/** Waits for what is being copied, which nothing can stop, and removes what is there. */
	async [Symbol.asyncDispose](): Promise<void> {
		await Promise.allSettled(this.#running);
		await this.clear();
	}

	async #copyTo(path: string): Promise<void> {
		const { directory, root } = this.#environment;
		const [{ bavail, bsize }, { size }] = [statfsSync(directory), await stat(join(directory, "state.mdb"))];
		if (bavail * bsize < size + LEFT_FREE_BYTES) {
			throw new StorageError("full", "not-written", "the disk has no room for a copy of the state");
		}
		// LMDB makes the file readable by everybody; the folder lets nobody but the owner in.
		mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
		chmodSync(this.#folder, 0o700);
		// Compact: without the pages that are free, in which there may be what was deleted.
		await root.backup(path, true);
	}
}

class CopyFile implements StateCopy {
	readonly bytes: number;
	readonly format = FORMAT_VERSION;
	readonly #path: string;
	#file: FileHandle | undefined;

	constructor(path: string, bytes: number) {
		this.#path = path;
		this.bytes = bytes;
	}

	async *read(): AsyncGenerator<Uint8Array, void, undefined> {
		try {
			this.#file ??= await open(this.#path, "r");
			for (let at = 0; at < this.bytes; ) {
				const piece = new Uint8Array(Math.min(PIECE_BYTES, this.bytes - at));
				const { bytesRead } = await this.#file.read(piece, 0, piece.byteLength, at);
				if (bytesRead === 0) throw new Error("the copy was cut short");
				at += bytesRead;
				yield piece.subarray(0, bytesRead);
			}
		} catch (error) {
			throw storageError(error);
		}
	}

	/** Whoever reads it may never be told that nobody takes what is read, so the file is closed here. */
	async [Symbol.asyncDispose](): Promise<void> {
		await this.#file?.close();
		await rm(this.#path, { force: true });
	}
}

function storageError(error: unknown): StorageError {
	if (error instanceof StorageError) return error;
	const isFull = error instanceof Error && /ENOSPC|EDQUOT|no space left|quota exceeded/i.test(error.message);
	return new StorageError(isFull ? "full" : "unavailable", "not-written", "the state cannot be copied", error);
}
