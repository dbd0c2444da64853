import { statfsSync } from "node:fs";
import type { Clock, Timer } from "../../clock/clock.ts";
import { StorageError } from "../kv-store.ts";
import type { Environment } from "./environment.ts";

/** Something with writes waiting. Its methods run in turn for each group, and must not throw. */
export interface GroupParticipant {
	/** In the transaction: writes what waits, up to about 8 MiB. A throw ends the writer: half of it may be stored. */
	write(): void;
	/** What the last `write` wrote is on the disk and visible to reads. */
	flushed(): void;
	/** Nothing of what the last `write` wrote is stored, unless the error's outcome is unknown. */
	failed(error: StorageError): void;
}

/** Reports what an operator should see. */
export interface StateLogger {
	error(details: object, message: string): void;
}

/** About how many bytes one participant writes to one group, so that a group's latency is bounded. */
export const GROUP_BYTES = 8 * 1024 * 1024;

/** How long a group may take to reach the disk, in milliseconds. */
const STALL_MS = 30_000;
/** Times that it is looked at within that, so that a process which was halted meanwhile has its turn before it is judged. */
const STALL_LOOKS = 10;

/** How long an empty transaction may take after a failed one, in milliseconds. */
const PROBE_MS = 500;

/** Room below which a failed write is put down to a full disk: a few groups. */
const FULL_BELOW_BYTES = 4 * GROUP_BYTES;

const FULL = new Set(["MDB_MAP_FULL", "ENOSPC", "EDQUOT", "28", "122", "-30792"]);
const PANIC = new Set(["MDB_PANIC", "-30795"]);

/**
 * One transaction after another, each with everything that came to wait during the one before: one flush for all of it.
 *
 * request -> write (in the transaction) -> commit and flush, off the event loop -> flushed or failed
 *
 * A commit that fails leaves nothing, unless its last page, which makes it current, may have reached the disk. Then the
 * environment refuses all further transactions, and `ended` settles: this process can no longer tell what is stored.
 */
export class GroupWriter {
	readonly #environment: Environment;
	readonly #clock: Clock;
	readonly #logger: StateLogger | undefined;
	readonly #ended = Promise.withResolvers<Error>();
	#requested = new Set<GroupParticipant>();
	#running: Promise<void> | undefined;
	#stopped: StorageError | undefined;

	constructor(environment: Environment, clock: Clock, logger?: StateLogger) {
		this.#environment = environment;
		this.#clock = clock;
		this.#logger = logger;
	}

	/** Settles when nothing written from now on could be vouched for. */
	get ended(): Promise<Error> {
		return this.#ended.promise;
	}

	/** Why nothing is taken any more. */
	get stopped(): StorageError | undefined {
		return this.#stopped;
	}

	/** Has the participant's `write` called in the next group. */
	request(participant: GroupParticipant): void {
		this.#requested.add(participant);
		this.#running ??= this.#run();
	}

	/** Runs `write` alone in the next group; resolves once that is on the disk. */
	once(write: () => void): Promise<void> {
		if (this.#stopped) return Promise.reject(this.#stopped);
		const { promise, resolve, reject } = Promise.withResolvers<void>();
		this.request({ write, flushed: resolve, failed: reject });
		return promise;
	}

	/** Refuses what comes from now on and waits for what was taken. */
	async close(): Promise<void> {
		this.#stopped ??= new StorageError("unavailable", "not-written", "the state is closed");
		await this.#running;
	}

	async #run(): Promise<void> {
		while (this.#requested.size > 0) {
			const group = [...this.#requested];
			this.#requested.clear();
			const ended = this.#stopped?.kind === "fatal" ? this.#stopped : undefined;
			const error = await (ended ?? this.#commit(group));
			for (const participant of group) {
				if (error) participant.failed(error);
				else participant.flushed();
			}
		}
		this.#running = undefined;
	}

	/** Undefined once the group is on the disk. */
	async #commit(group: readonly GroupParticipant[]): Promise<StorageError | undefined> {
		const stalled = Promise.withResolvers<StorageError>();
		let left = STALL_LOOKS;
		let timer: Timer;
		const lookLater = () => {
			timer = this.#clock.after(STALL_MS / STALL_LOOKS, () => {
				if (--left > 0) lookLater();
				else stalled.resolve(this.#end(new Error(`a commit did not settle within ${STALL_MS} ms`)));
			});
		};
		lookLater();
		try {
			return await Promise.race([this.#transact(group), stalled.promise]);
		} finally {
			timer!.cancel();
		}
	}

	async #transact(group: readonly GroupParticipant[]): Promise<StorageError | undefined> {
		let thrown: { readonly error: unknown } | undefined;
		const failure = await this.#attempt(() => {
			try {
				for (const participant of group) {
					// It takes what came after it was asked to be here, too: that needs no group of its own.
					this.#requested.delete(participant);
					participant.write();
				}
			} catch (error) {
				thrown = { error };
			}
		});
		if (thrown) return this.#end(thrown.error);
		if (failure === undefined) return undefined;
		const code = codeOf(failure.error);
		if (PANIC.has(code)) return this.#end(failure.error);
		if (FULL.has(code) || this.#diskFull()) {
			return new StorageError("full", "not-written", "the disk or its quota is full", failure.error);
		}
		if (!(await this.#takesTransactions())) return this.#end(failure.error);
		this.#logger?.error({ err: failure.error }, "a commit failed");
		return new StorageError("unavailable", "not-written", "a write to the disk failed", failure.error);
	}

	/**
	 * Only an environment that still takes transactions has certainly dropped the failed one. One that does not may never
	 * settle them. An empty transaction writes nothing, so it is not held up by a slow disk.
	 */
	async #takesTransactions(): Promise<boolean> {
		const late = Promise.withResolvers<boolean>();
		const timer = this.#clock.after(PROBE_MS, () => late.resolve(false));
		const probe = this.#attempt(() => {}).then((failure) => !failure || !PANIC.has(codeOf(failure.error)));
		try {
			return await Promise.race([probe, late.promise]);
		} finally {
			timer.cancel();
		}
	}

	/** LMDB says EIO where a write came out short, as the last one before a full disk does. */
	#diskFull(): boolean {
		try {
			const { bavail, bsize } = statfsSync(this.#environment.directory);
			return bavail * bsize < FULL_BELOW_BYTES;
		} catch {
			return false;
		}
	}

	/** Runs one transaction; undefined once it is on the disk. */
	async #attempt(write: () => void): Promise<{ readonly error: unknown } | undefined> {
		const { root } = this.#environment;
		try {
			await root.transaction(write);
			root.resetReadTxn();
			return undefined;
		} catch (error) {
			root.resetReadTxn();
			// The reason comes in a promise of its own, which ends the process if nobody listens in this turn.
			const reason = (error as { commitError?: Promise<unknown> }).commitError;
			if (reason === undefined) return { error };
			return { error: await reason.catch((cause: unknown) => cause) };
		}
	}

	#end(cause: unknown): StorageError {
		if (this.#stopped?.kind !== "fatal") {
			this.#stopped = new StorageError("fatal", "unknown", "the state can no longer be written", cause);
			this.#logger?.error({ err: cause }, "the state can no longer be written");
			this.#ended.resolve(this.#stopped);
		}
		return this.#stopped;
	}
}

/** LMDB's name of the fault, or the system's name or number. */
function codeOf(error: unknown): string {
	if (!(error instanceof Error)) return "";
	const name = /MDB_[A-Z_]+|No space left|quota exceeded/i.exec(error.message)?.[0] ?? "";
	if (/no space left/i.test(name)) return "ENOSPC";
	if (/quota exceeded/i.test(name)) return "EDQUOT";
	return name || String((error as { code?: unknown }).code ?? "");
}
