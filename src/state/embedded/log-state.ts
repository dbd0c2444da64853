import type { ByteDatabase, Environment } from "./environment.ts";
import type { GroupWriter } from "./group-writer.ts";

/** What is fixed when a log is made. */
export interface LogIdentity {
	/** Stands for the name in keys; 1 to 65,535. */
	readonly number: number;
	readonly epoch: string;
	/** Of the id hashes. */
	readonly seed: number;
}

/** What each group that touches a log stores anew. */
export interface LogState {
	readonly first: number;
	readonly next: number;
	/** Of all blocks. */
	readonly bytes: number;
	/** Of the newest record, in milliseconds since the Unix epoch (LOG-8). */
	readonly time: number;
}

const COUNT_KEY = Buffer.from("log-count");
const MAX_LOGS = 65_535;

/** The identity stored under a name, or a new one that is on the disk when this resolves. */
export async function openLogIdentity(
	environment: Environment,
	writer: GroupWriter,
	name: string,
	fresh: { readonly epoch: string; readonly seed: number },
): Promise<LogIdentity> {
	const { meta } = environment;
	const key = Buffer.from(`log/${name}`);
	const stored = meta.getBinary(key);
	if (stored) return JSON.parse(stored.toString()) as LogIdentity;
	let identity: LogIdentity | undefined;
	await writer.once(() => {
		const number = Number(meta.getBinary(COUNT_KEY)?.toString() ?? 0) + 1;
		if (number > MAX_LOGS) return;
		identity = { number, ...fresh };
		meta.put(COUNT_KEY, Buffer.from(String(number)));
		meta.put(key, Buffer.from(JSON.stringify(identity)));
	});
	if (identity === undefined) throw new RangeError(`a state folder has at most ${MAX_LOGS} logs`);
	return identity;
}

export function readLogState(meta: ByteDatabase, number: number): LogState {
	const stored = meta.getBinary(stateKey(number));
	if (stored === undefined) return { first: 1, next: 1, bytes: 0, time: 0 };
	return {
		first: stored.readDoubleLE(0),
		next: stored.readDoubleLE(8),
		bytes: stored.readDoubleLE(16),
		time: stored.readDoubleLE(24),
	};
}

/** In the transaction. */
export function writeLogState(meta: ByteDatabase, number: number, state: LogState): void {
	const stored = Buffer.allocUnsafe(32);
	stored.writeDoubleLE(state.first, 0);
	stored.writeDoubleLE(state.next, 8);
	stored.writeDoubleLE(state.bytes, 16);
	stored.writeDoubleLE(state.time, 24);
	meta.put(stateKey(number), stored);
}

function stateKey(number: number): Buffer {
	return Buffer.from(`log-state/${number}`);
}
