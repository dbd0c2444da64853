import type { Clock, IdSource } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import type { FirstAnswers } from "../idempotency/first-answers.ts";
import { storageRefusal } from "../idempotency/storage-refusal.ts";
import { keys } from "../state/key-layout.ts";
import { type KvCommitResult, type KvStore, StorageError } from "../state/kv-store.ts";
import type { EntryCache } from "./entry-cache.ts";
import { writerFull } from "./entry-refusals.ts";
import type { EntryStage } from "./entry-stage.ts";
import type { UnitSettled, WriteUnit, Written } from "./entry-write.ts";
import type { InstanceLeases } from "./instance-leases.ts";
import { KeyTurns } from "./key-turns.ts";
import { Leftovers } from "./leftovers.ts";
import type { OpenStore } from "./open-store.ts";
import { type Queued, QueuedEnd, QueuedUnit } from "./queued-unit.ts";
import { parseEntry } from "./store-keys.ts";
import { UnitEvaluator } from "./unit-evaluator.ts";
import type { UsageBook } from "./usage-book.ts";
import { type Leftover, WriteRound } from "./write-round.ts";

export interface EntryWriterOptions {
	readonly kv: KvStore;
	readonly answers: FirstAnswers;
	readonly clock: Clock;
	readonly ids: IdSource;
	readonly leases: InstanceLeases;
	readonly cache: EntryCache;
	readonly usage: UsageBook;
	readonly stage: EntryStage;
	/** The store as it is now; undefined where this life of it is over. */
	readonly storeOf: (id: string) => OpenStore | undefined;
	/** Told what was stored. Must not throw. */
	readonly onStored: (round: WriteRound) => void;
}

/** A round, the units in it, and what it takes away of what is left over. */
interface Made {
	readonly round: WriteRound;
	readonly units: readonly Queued[];
	readonly taken: readonly Leftover[];
}

/** Units waiting from which on no more are taken. */
const FULL_UNITS = 100_000;
/** Bytes of units waiting from which on no more are taken. */
const FULL_BYTES = 64 * 1024 * 1024;
/** How long to wait before a commit of unknown outcome is tried again under the same id, in milliseconds. */
const RETRY_MS = 100;
/** How often a round is made again that meets another hub's writes. */
const MAX_ATTEMPTS = 1000;

/**
 * Writes entries: many units as few commits. While one commit is on its way, what comes waits and then goes together.
 *
 * submit -> the lines of its keys -> ready -> a round, decided against what is stored -> commit -> settled
 *
 * - EW-1 The writes of a unit are stored together or not at all, and only if everything holds that the unit expects.
 * - EW-2 Of units that share a key, one at a time is decided and stored, in the order of `submit`; others pass them, so that
 *   a key that many write to holds up nobody else. A commit writes a key once.
 * - EW-3 A unit is decided against what is stored, and its commit checks that this is still there; where it is not, because
 *   another hub writes too, it is decided again.
 * - EW-4 A commit of unknown outcome is repeated under its id until it is known, unless the storage is at its end.
 * - EW-5 What a store holds is counted in the commit that changes it: quotas are exact whatever happens.
 */
export class EntryWriter implements AsyncDisposable {
	readonly #options: EntryWriterOptions;
	readonly #evaluator: UnitEvaluator;
	readonly #leftovers: Leftovers;
	readonly #turns = new KeyTurns<Queued>();
	/** Those that have their keys, in the order in which they got them. */
	#ready: Queued[] = [];
	#waiting = 0;
	#waitingBytes = 0;
	#running: Promise<void> | undefined;
	/** The commit that is on its way. */
	#round: PromiseWithResolvers<void> | undefined;
	#disposed = false;

	constructor(options: EntryWriterOptions) {
		this.#options = options;
		this.#evaluator = new UnitEvaluator(options);
		this.#leftovers = new Leftovers(options);
	}

	/** Units that wait or are being written. */
	get waiting(): number {
		return this.#waiting;
	}

	/** Whether so much waits that nothing should be submitted that can wait elsewhere. */
	get isFull(): boolean {
		return this.#waiting >= FULL_UNITS || this.#waitingBytes >= FULL_BYTES;
	}

	/** `settled` is called once, later. The unit must not change until then. */
	submit(unit: WriteUnit, settled: UnitSettled): void {
		const queued = new QueuedUnit(unit, settled);
		if (this.#disposed || this.isFull) {
			const error = this.#disposed ? new HubError("HUB_DRAINING", "the hub is shutting down") : writerFull();
			queueMicrotask(() => settled(undefined, error));
			return;
		}
		this.#waiting++;
		this.#waitingBytes += queued.weight;
		for (const key of queued.keys) this.#turns.add(queued, key);
		for (const key of queued.checkKeys) this.#turns.add(queued, key);
		if (unit.request !== undefined) {
			const { principal, method, requestId } = unit.request;
			this.#turns.add(queued, keys.firstAnswer(principal, method, requestId));
		}
		this.#enqueue(queued);
	}

	/** Ends what an index says is over, or takes the index's key away where it is not so. */
	end(end: ConstructorParameters<typeof QueuedEnd>[0]): void {
		const queued = new QueuedEnd(end);
		if (this.#disposed) {
			queueMicrotask(() => end.settled(new HubError("HUB_DRAINING", "the hub is shutting down")));
			return;
		}
		this.#turns.add(queued, queued.entryKey);
		this.#enqueue(queued);
	}

	/** Resolves once the commit that is on its way now is settled, and what it wrote can be read. */
	async roundSettled(): Promise<void> {
		await this.#round?.promise;
	}

	/** Resolves once there is nothing left to write. */
	async idle(): Promise<void> {
		while (this.#running !== undefined) await this.#running;
	}

	/** Takes no more, and writes what it has taken. */
	async [Symbol.asyncDispose](): Promise<void> {
		this.#disposed = true;
		await this.#running;
	}

	#enqueue(queued: Queued): void {
		if (queued.blocked > 0) return;
		this.#ready.push(queued);
		this.#running ??= this.#run();
	}

	async #run(): Promise<void> {
		// What is submitted in the same turn goes together.
		await undefined;
		const { kv, usage } = this.#options;
		let isStuck = false;
		for (let attempt = 0; this.#ready.length > 0 || (this.#leftovers.size > 0 && !isStuck); ) {
			isStuck = false;
			const { round, units, taken } = this.#build();
			if (round.isEmpty) {
				round.dropRows();
				this.#leftovers.settle(round, taken);
				this.#finish(units, 0);
				continue;
			}
			for (const { storeId, key } of round.staged) this.#options.cache.begin(storeId, key);
			this.#round = Promise.withResolvers();
			const { result, error } = await this.#commit(round);
			if (result?.ok === true) {
				attempt = 0;
				this.#store(round, taken, result.firstRevision);
				this.#finish(units, result.firstRevision);
			} else {
				for (const { storeId, key } of round.staged) this.#options.cache.forget(storeId, key);
				round.dropRows();
				if (result !== undefined && ++attempt < MAX_ATTEMPTS) {
					this.#decideAgain(result, units);
				} else {
					const refusal = storageRefusal(error ?? conflicts());
					for (const queued of units) this.#refuse(queued, refusal);
					// What is left over is taken away with the next write.
					if (this.#ready.length === 0) isStuck = true;
				}
			}
			this.#round.resolve();
			this.#round = undefined;
			usage.trim();
			// A store that answers at once would otherwise keep the process to itself.
			if (!kv.capabilities.durable && this.#ready.length > 0) await new Promise((resolve) => setImmediate(resolve));
		}
		this.#running = undefined;
	}

	/** Takes of what is ready as much as one commit holds. */
	#build(): Made {
		const round = new WriteRound(this.#options.clock.now());
		const units: Queued[] = [];
		if (!this.#leftovers.areMany) {
			const ready = this.#ready;
			// Those that come to be ready meanwhile go behind these.
			this.#ready = [];
			const put: Queued[] = [];
			let at = 0;
			for (; at < ready.length; at++) {
				const queued = ready[at]!;
				const verdict = this.#decide(queued, round);
				if (verdict === "full") break;
				if (verdict === "taken") units.push(queued);
				else if (verdict === "ending") put.push(queued);
			}
			this.#ready = [...put, ...ready.slice(at), ...this.#ready];
		}
		const taken = this.#leftovers.take(round);
		round.seal();
		return { round, units, taken };
	}

	#decide(queued: Queued, round: WriteRound): "taken" | "full" | "ending" | "settled" {
		if (queued instanceof QueuedEnd) return this.#evaluator.evaluateEnd(queued, round) ? "taken" : "full";
		if (queued.unit.signal?.aborted === true) {
			this.#refuse(queued, new HubError("CANCELLED", "the call was cancelled"));
			return "settled";
		}
		try {
			const verdict = this.#evaluator.evaluate(queued, round);
			if (typeof verdict === "string") return verdict;
			this.#letGo(queued);
			queued.settled(verdict);
		} catch (error) {
			this.#refuse(queued, error);
		}
		return "settled";
	}

	async #commit(round: WriteRound): Promise<{ readonly result?: KvCommitResult; readonly error?: unknown }> {
		const { kv, clock, ids } = this.#options;
		const commit = { id: ids.next(), checks: round.checks, writes: round.writes };
		for (;;) {
			try {
				return { result: await kv.commit(commit) };
			} catch (error) {
				const isOpen = error instanceof StorageError && error.outcome === "unknown" && error.kind !== "fatal";
				if (!isOpen || this.#disposed) return { error };
				await new Promise<void>((resolve) => void clock.after(RETRY_MS, resolve));
			}
		}
	}

	/** The round is in the keyspace. */
	#store(round: WriteRound, taken: readonly Leftover[], firstRevision: number): void {
		for (const { storeId, key, index, before, after } of round.staged) {
			const revision = firstRevision + index;
			after?.settle(revision, before?.createRevision ?? revision);
			this.#options.cache.settle(storeId, key, after);
		}
		round.settleRows(firstRevision);
		this.#leftovers.settle(round, taken);
		this.#options.onStored(round);
	}

	/** Tells units what they did. */
	#finish(units: readonly Queued[], firstRevision: number): void {
		for (const queued of units) {
			this.#letGo(queued);
			if (queued instanceof QueuedEnd) {
				queued.settled();
				continue;
			}
			for (const outcome of queued.outcomes) {
				outcome.revision = outcome.revision < 0 ? 0 : firstRevision + outcome.revision;
			}
			queued.stored?.();
			queued.settled({
				results: queued.outcomes,
				duplicate: false,
				transactionId: queued.unit.transactionId,
			} satisfies Written);
		}
	}

	/** Another hub has written, or a store was changed: what was read of it is not what is there. */
	#decideAgain({ conflicts }: Extract<KvCommitResult, { ok: false }>, units: readonly Queued[]): void {
		for (const { key } of conflicts) {
			const entry = parseEntry(key);
			if (entry !== undefined) this.#options.cache.forget(entry.storeId, entry.key);
		}
		this.#options.usage.forgetAll();
		this.#ready = [...units, ...this.#ready];
	}

	#refuse(queued: Queued, error: unknown): void {
		this.#letGo(queued);
		if (queued instanceof QueuedEnd) queued.settled(error);
		else {
			countRefusal(queued.unit, error);
			queued.settled(undefined, error);
		}
	}

	#letGo(queued: Queued): void {
		if (queued instanceof QueuedUnit) {
			this.#waiting--;
			this.#waitingBytes -= queued.weight;
		}
		this.#turns.release(queued, this.#becomesReady);
	}

	readonly #becomesReady = (queued: Queued): void => {
		this.#ready.push(queued);
	};
}

function conflicts(): HubError {
	return new HubError("STORAGE_UNAVAILABLE", "too many others change the same thing", { retryAfterMs: 1000 });
}

/** Counted for the store of the unit's first operation. */
function countRefusal({ writes, checks }: WriteUnit, error: unknown): void {
	const activity = (writes[0] ?? checks[0])?.store.activity;
	if (activity === undefined || !(error instanceof HubError)) return;
	if (error.reason === "REVISION_MISMATCH") activity.mismatches++;
	else if (error.reason === "VALIDATION_FAILED") activity.invalid++;
	else if (error.reason === "QUOTA_EXCEEDED") activity.overQuota++;
}
