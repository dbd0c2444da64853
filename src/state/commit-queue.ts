import { KV_LIMITS, type KvStore, type KvWrite, StorageError } from "./kv-store.ts";

/** What a queue needs of the hub's clock and of its ids. */
export interface CommitQueueOptions {
	readonly kv: KvStore;
	readonly clock: { after(ms: number, run: () => void): { cancel(): void } };
	readonly ids: { next(): string };
}

/** Writes that are stored together, and what is told once that is known. */
interface Unit {
	/** Undefined: it is open. */
	writes: readonly KvWrite[] | undefined;
	/** Gives the writes of an open one. */
	readonly seal: () => readonly KvWrite[];
	bytes: number;
	readonly settled: (error?: unknown) => void;
}

/** Units that go together. */
interface Batch {
	readonly units: readonly Unit[];
	readonly writes: readonly KvWrite[];
}

/** Bytes waiting above which `isFull` asks for a pause. */
const FULL_BYTES = 64 * 1024 * 1024;
/** Units waiting above which `isFull` asks for a pause. */
const FULL_UNITS = 100_000;
/** How long to wait before a commit of unknown outcome is tried again under the same id, in milliseconds. */
const RETRY_MS = 100;

/** Commits that are on their way together at most. */
const ROUND_COMMITS = 8;

/**
 * Many small writes as few commits: while a round of commits is on its way, what comes waits and then goes together, in as
 * few commits as their bounds allow.
 *
 * - CQ-1 One round is on its way at a time, and units are stored in the order of `add`, and told in that order. A store that
 *   is this process's own applies commits in the order in which it gets them, and a round gives it several, which cost one
 *   flush; of a shared store the order is known only of one commit after another.
 * - CQ-2 The writes of a unit are stored together or not at all. Of two units that write a key in one commit the later wins.
 * - CQ-3 A commit of unknown outcome is repeated under its id until it is known, unless the storage is at its end.
 * - CQ-4 An open unit (`addOpen`) keeps its place, and is asked for its writes when its round begins.
 * - CQ-5 Every unit is told once. Those that wait when the queue is disposed are stored before disposal ends.
 */
export class CommitQueue implements AsyncDisposable {
	readonly #options: CommitQueueOptions;
	#waiting: Unit[] = [];
	#waitingBytes = 0;
	#running: Promise<void> | undefined;
	#disposed = false;

	constructor(options: CommitQueueOptions) {
		this.#options = options;
	}

	/** Whether so much waits that nothing should be added that can be refused. */
	get isFull(): boolean {
		return this.#waitingBytes >= FULL_BYTES || this.#waiting.length >= FULL_UNITS;
	}

	/**
	 * At most 1,000 writes and 4 MiB. `settled` is called later, with the storage's error where nothing was stored, and must
	 * not throw. The values must not change until then.
	 */
	add(writes: readonly KvWrite[], settled: (error?: unknown) => void): void {
		const bytes = sizeOfAll(writes);
		this.#push({ writes, seal: () => writes, bytes, settled });
		this.#waitingBytes += bytes;
	}

	/**
	 * CQ-4. The same for writes that are not known yet: `seal` gives them, once, and must not throw. Returns what is to be told of
	 * the bytes that come to them until then.
	 */
	addOpen(seal: () => readonly KvWrite[], settled: (error?: unknown) => void): (bytes: number) => void {
		const unit: Unit = { writes: undefined, seal, bytes: 0, settled };
		this.#push(unit);
		return (bytes) => {
			if (unit.writes !== undefined) return;
			unit.bytes += bytes;
			this.#waitingBytes += bytes;
		};
	}

	/** The same as a promise. */
	store(writes: readonly KvWrite[]): Promise<void> {
		return new Promise((resolve, reject) => {
			this.add(writes, (error) => (error === undefined ? resolve() : reject(error)));
		});
	}

	/** CQ-5. */
	async [Symbol.asyncDispose](): Promise<void> {
		this.#disposed = true;
		await this.#running;
	}

	#push(unit: Unit): void {
		this.#waiting.push(unit);
		this.#running ??= this.#run();
	}

	async #run(): Promise<void> {
		// What is added in the same turn goes together.
		await undefined;
		const most = this.#options.kv.capabilities.shared ? 1 : ROUND_COMMITS;
		while (this.#waiting.length > 0) {
			const round: { readonly units: readonly Unit[]; readonly committed: Promise<unknown> }[] = [];
			while (this.#waiting.length > 0 && round.length < most) {
				const { units, writes } = this.#take();
				round.push({ units, committed: this.#commit(writes) });
			}
			for (const { units, committed } of round) {
				const error = await committed;
				for (const unit of units) unit.settled(error);
			}
		}
		this.#running = undefined;
	}

	#take(): Batch {
		const writes = new Map<string, KvWrite>();
		let bytes = 0;
		let taken = 0;
		for (const unit of this.#waiting) {
			const own = this.#writesOf(unit);
			const fits = writes.size + own.length <= KV_LIMITS.commitWrites && bytes + unit.bytes <= KV_LIMITS.commitBytes;
			if (taken > 0 && !fits) break;
			for (const write of own) writes.set(write.key, write);
			bytes += unit.bytes;
			taken++;
		}
		const units = this.#waiting.slice(0, taken);
		this.#waiting = taken === this.#waiting.length ? [] : this.#waiting.slice(taken);
		this.#waitingBytes -= bytes;
		return { units, writes: [...writes.values()] };
	}

	#writesOf(unit: Unit): readonly KvWrite[] {
		if (unit.writes !== undefined) return unit.writes;
		const writes = unit.seal();
		unit.writes = writes;
		const bytes = sizeOfAll(writes);
		this.#waitingBytes += bytes - unit.bytes;
		unit.bytes = bytes;
		return writes;
	}

	/** Undefined once it is stored. */
	async #commit(writes: readonly KvWrite[]): Promise<unknown> {
		if (writes.length === 0) return undefined;
		const { kv, ids } = this.#options;
		const id = ids.next();
		while (true) {
			try {
				await kv.commit({ id, writes });
				return undefined;
			} catch (error) {
				const isOpen = error instanceof StorageError && error.outcome === "unknown" && error.kind !== "fatal";
				if (!isOpen || this.#disposed) return error;
				await new Promise<void>((resolve) => void this.#options.clock.after(RETRY_MS, resolve));
			}
		}
	}
}

function sizeOfAll(writes: readonly KvWrite[]): number {
	let bytes = 0;
	for (const write of writes) bytes += sizeOf(write);
	return bytes;
}

/** Keys of this queue's users are ASCII. */
function sizeOf(write: KvWrite): number {
	return write.key.length + (write.value === undefined ? (write.note?.byteLength ?? 0) : write.value.byteLength);
}
