import type { Clock, IdSource } from "../../clock/clock.ts";
import { newEpoch, seedOf } from "../log-epoch.ts";
import { checkLogName, LOG_DEFAULTS } from "../log-rules.ts";
import type { LogOptions, LogStore } from "../log-store.ts";
import { SingleNodeBus } from "../single-node-bus.ts";
import type { StateBackend } from "../state-backend.ts";
import { VolatileKvStore } from "../volatile-kv-store.ts";
import { MemoryLogStore } from "./memory-log-store.ts";

export interface MemoryStateOptions {
	readonly clock: Clock;
	readonly ids: IdSource;
	/** The hub's version, told to peers. */
	readonly version?: string;
}

/** State that ends with the process, for tests and embedding. Bounded by what its owners delete and trim. */
export function openMemoryState(options: MemoryStateOptions): StateBackend {
	const { clock, ids, version = "" } = options;
	const kv = new VolatileKvStore(clock);
	const volatileKv = new VolatileKvStore(clock);
	const logs = new Map<string, MemoryLogStore>();
	return {
		name: "memory",
		kv,
		volatileKv,
		bus: new SingleNodeBus({ id: ids.next(), startTime: clock.now(), version }),
		failed: new Promise(() => {}),
		copy: async () => undefined,
		async log(name: string, logOptions?: LogOptions): Promise<LogStore> {
			checkLogName(name);
			let log = logs.get(name);
			if (log === undefined) {
				log = new MemoryLogStore(clock, newEpoch(ids.next()), seedOf(ids.next()), { ...LOG_DEFAULTS, ...logOptions });
				logs.set(name, log);
			}
			return log;
		},
		async [Symbol.asyncDispose]() {
			kv.close();
			volatileKv.close();
			for (const log of logs.values()) log.close();
		},
	};
}
