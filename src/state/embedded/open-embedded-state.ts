import type { Clock, IdSource } from "../../clock/clock.ts";
import { newEpoch, seedOf } from "../log-epoch.ts";
import { checkLogName, LOG_DEFAULTS } from "../log-rules.ts";
import type { LogOptions, LogStore } from "../log-store.ts";
import { SingleNodeBus } from "../single-node-bus.ts";
import type { StateBackend } from "../state-backend.ts";
import { VolatileKvStore } from "../volatile-kv-store.ts";
import { EmbeddedKvStore } from "./embedded-kv-store.ts";
import { EmbeddedLogStore } from "./embedded-log-store.ts";
import { openEnvironment } from "./environment.ts";
import { lockFolder } from "./folder-lock.ts";
import { GroupWriter, type StateLogger } from "./group-writer.ts";
import { openLogIdentity } from "./log-state.ts";
import { StateCopies } from "./state-copies.ts";

export interface EmbeddedStateOptions {
	/** Created with mode 0700 where it is missing. Must be on a local file system. */
	readonly directory: string;
	readonly clock: Clock;
	readonly ids: IdSource;
	readonly logger?: StateLogger;
	/** The hub's version, told to peers. */
	readonly version?: string;
}

/**
 * State in LMDB in a folder of one machine. What is acknowledged has been flushed. Rejects with `StateOpenError` where
 * another hub has the folder, or what is in it is newer than this hub or cannot be read.
 */
export async function openEmbeddedState(options: EmbeddedStateOptions): Promise<StateBackend> {
	const { directory, clock, ids, logger, version = "" } = options;
	const lock = await lockFolder(directory);
	try {
		const environment = await openEnvironment(directory);
		const copies = new StateCopies(environment);
		await copies.clear();
		const writer = new GroupWriter(environment, clock, logger);
		const kv = new EmbeddedKvStore(environment, writer, clock);
		const volatileKv = new VolatileKvStore(clock);
		const logs = new Map<string, Promise<EmbeddedLogStore>>();
		const openLog = async (name: string, logOptions?: LogOptions): Promise<EmbeddedLogStore> => {
			const fresh = { epoch: newEpoch(ids.next()), seed: seedOf(ids.next()) };
			const identity = await openLogIdentity(environment, writer, name, fresh);
			return new EmbeddedLogStore(environment, writer, clock, identity, { ...LOG_DEFAULTS, ...logOptions });
		};
		let disposed: Promise<void> | undefined;
		const dispose = async (): Promise<void> => {
			await writer.close();
			kv.close();
			volatileKv.close();
			for (const log of await Promise.allSettled(logs.values())) {
				if (log.status === "fulfilled") log.value.close();
			}
			await copies[Symbol.asyncDispose]();
			// A writer that ended may still be writing. The folder stays locked until the process is gone.
			if (writer.stopped?.kind === "fatal") return;
			await environment.root.close();
			lock[Symbol.dispose]();
		};
		return {
			name: "embedded",
			kv,
			volatileKv,
			bus: new SingleNodeBus({ id: ids.next(), startTime: clock.now(), version }),
			failed: writer.ended,
			copy: () => copies.make(),
			async log(name: string, logOptions?: LogOptions): Promise<LogStore> {
				checkLogName(name);
				if (writer.stopped) throw writer.stopped;
				let log = logs.get(name);
				if (log === undefined) {
					log = openLog(name, logOptions);
					logs.set(name, log);
					// A log that could not be made may be asked for again.
					log.catch(() => logs.delete(name));
				}
				return await log;
			},
			[Symbol.asyncDispose]() {
				disposed ??= dispose();
				return disposed;
			},
		};
	} catch (error) {
		lock[Symbol.dispose]();
		throw error;
	}
}
