import { randomFillSync } from "node:crypto";
import type { Clock, IdSource, Timer } from "./clock.ts";

const MAX_TIMEOUT_MS = 2 ** 31 - 1;

/** The machine's clock. Its timers do not keep the process alive. */
export const systemClock: Clock = {
	now: () => Date.now(),
	monotonic: () => performance.now(),
	after(ms, run): Timer {
		const handle = setTimeout(run, Math.min(Math.max(ms, 0), MAX_TIMEOUT_MS));
		handle.unref();
		return { cancel: () => clearTimeout(handle) };
	},
	every(ms, run): Timer {
		const handle = setInterval(run, Math.min(Math.max(ms, 1), MAX_TIMEOUT_MS));
		handle.unref();
		return { cancel: () => clearInterval(handle) };
	},
};

const POOL_BYTES = 4096;
const pool = Buffer.allocUnsafeSlow(POOL_BYTES);
let used = POOL_BYTES;

/** 128 random bits as 32 hexadecimal characters, drawn from a pool because one draw an id costs a system call. */
export const randomIds: IdSource = {
	next() {
		if (used === POOL_BYTES) {
			randomFillSync(pool);
			used = 0;
		}
		const from = used;
		used += 16;
		return pool.toString("hex", from, used);
	},
};
