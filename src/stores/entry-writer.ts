import type { Clock, IdSource } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import type { FirstAnswers, RepeatableRequest } from "../idempotency/first-answers.ts";
import { storageRefusal } from "../idempotency/storage-refusal.ts";
import { keys } from "../state/key-layout.ts";
import { type KvCommitResult, type KvStore, StorageError } from "../state/kv-store.ts";
import type { EntryCache } from "./entry-cache.ts";
import { writerFull } from "./entry-refusals.ts";
import type { EntryStage } from "./entry-stage.ts";
import type { UnitSettled, WriteUnit } from "./entry-write.ts";
import type { InstanceLeases } from "./instance-leases.ts";
import { type Line, releaseTurns, takeTurn } from "./key-turns.ts";
import { Leftovers } from "./leftovers.ts";
import type { OpenStore } from "./open-store.ts";
import { type AnnouncedEnd, type Queued, QueuedEnd, QueuedUnit, weightOf } from "./queued-unit.ts";
import { parseEntry } from "./store-keys.ts";
import { UnitEvaluator } from "./unit-evaluator.ts";
import type { UsageBook } from "./usage-book.ts";
import { WaitingUnits } from "./waiting-units.ts";
import { type Leftover, StagedEnd, WriteRound } from "./write-round.ts";

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

/** A round and the units in it. */
interface Draft {
	readonly round: WriteRound;
	readonly units: Queued[];
	/** Units that can be decided once it is stored, because entries end in it that they write. */
	readonly next: Queued[];
	/** What it takes away of what is left over. */
	taken: readonly Leftover[];
	/** Whether there was something that did not fit. */
	isFull: boolean;
	/** Resolved once it is stored, has failed or is taken back. */
	readonly settled: PromiseWithResolvers<void>;
}

/** How long to wait before a commit of unknown outcome is tried again under the same id, in milliseconds. */
const RETRY_MS = 100;
/** How often a round is made again that meets another hub's writes. */
const MAX_ATTEMPTS = 1000;

/**
 * Writes entries: many units as few commits. One commit is on its way at a time; what comes meanwhile is decided for the next
 * one, which follows as soon as that one is stored.
 *
 * submit -> the lines of its keys -> ready -> decided against what is stored, in a draft -> commit -> settled
 *
 * - EW-1 The writes of a unit are stored together or not at all, and only if everything holds that the unit expects.
 * - EW-2 Of units that share a key, one at a time is decided and stored, in the order of `submit`; others pass them, so that
 *   a key that many write to holds up nobody else. A commit writes a key once.
 * - EW-3 A unit is decided against what is stored, and its commit checks that this is still there; where it is not, because
 *   another hub writes too, it is decided again. The commit on its way writes none of its keys (EW-2).
 * - EW-4 A commit of unknown outcome is repeated under its id until it is known, unless the storage is at its end.
 * - EW-5 What a store holds is counted in the commit that changes it: no quota is passed, whatever happens. What is decided while a
 *   commit is on its way counts on that one, and is decided again if it fails; what was refused then stays refused.
 * - EW-6 What is over when its commit begins is not written as if it lived.
 */
export class EntryWriter implements AsyncDisposable {
	readonly #options: EntryWriterOptions;
	readonly #evaluator: UnitEvaluator;
	readonly #leftovers: Leftovers;
	readonly #waiting = new WaitingUnits();
	/** By key in the keyspace of first answers: the requests under way. */
	readonly #requests = new Map<string, Line>();
	/** Those that have their keys, in the order in which they got them. */
	#ready: Queued[] = [];
	/** What has been decided for the next commit. */
	#draft: Draft | undefined;
	#drafts = 0;
	#running: Promise<void> | undefined;
	/** What is on its way. */
	#round: Draft | undefined;
	#isDeciding = false;
	#disposed = false;

	constructor(options: EntryWriterOptions) {
		this.#options = options;
		this.#evaluator = new UnitEvaluator(options);
		this.#leftovers = new Leftovers(options);
	}

	/** Units that wait or are being written. */
	get waiting(): number {
		return this.#waiting.units;
	}

	/** Whether so much waits that nothing should be submitted that can wait elsewhere. */
	get isFull(): boolean {
		return this.#waiting.isFull;
	}

	/** `settled` is called once, later. The unit must not change until then. */
	submit<U extends WriteUnit>(unit: U, settled: UnitSettled<U>): void {
		const weight = weightOf(unit);
		const share = this.#disposed ? undefined : this.#waiting.enter(unit, weight);
		if (share === undefined) {
			const error = this.#disposed ? draining() : writerFull();
			queueMicrotask(() => settled(undefined, error, unit));
			return;
		}
		const queued = new QueuedUnit(unit, settled as UnitSettled, this.#options.cache, share, weight);
		if (unit.request !== undefined) takeTurn(queued, this.#requestLine(unit.request));
		queued.hadToWait = queued.blocked > 0;
		this.#enqueue(queued);
	}

	/** Ends what an index says is over, or takes the index's key away where it is not so. */
	end(end: AnnouncedEnd): void {
		if (this.#disposed) {
			queueMicrotask(() => end.settled(draining()));
			return;
		}
		this.#enqueue(new QueuedEnd(end, this.#options.cache));
	}

	/** Resolves once all that is decided now is settled, and what it wrote can be read. What is taken back is decided anew. */
	async decidedSettled(): Promise<void> {
		// The draft is settled after what is on its way.
		await (this.#draft ?? this.#round)?.settled.promise;
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

	#requestLine({ principal, method, requestId }: RepeatableRequest): Line {
		const key = keys.firstAnswer(principal, method, requestId);
		let line = this.#requests.get(key);
		if (line === undefined) {
			line = { last: undefined };
			this.#requests.set(key, line);
		}
		return line;
	}

	#enqueue(queued: Queued): void {
		if (queued.blocked > 0) return;
		this.#ready.push(queued);
		if (this.#running === undefined) this.#running = this.#run();
		else if (this.#round !== undefined) this.#decideSoon();
	}

	/** While a commit is on its way: the time until it is stored is used, and the next one need not wait for it. */
	#decideSoon(): void {
		// Rows of what is held are let go between commits.
		if (this.#isDeciding || this.#options.usage.isFull) return;
		this.#isDeciding = true;
		queueMicrotask(() => {
			this.#isDeciding = false;
			if (this.#round !== undefined) this.#decide();
		});
	}

	async #run(): Promise<void> {
		// What is submitted in the same turn goes together.
		await undefined;
		const { kv, usage } = this.#options;
		let isStuck = false;
		for (let attempt = 0; this.#hasWork || (this.#leftovers.size > 0 && !isStuck); ) {
			isStuck = false;
			const draft = this.#finishDraft();
			const { round, units } = draft;
			if (round.isEmpty) {
				round.dropRows();
				this.#stored(draft, 0);
				draft.settled.resolve();
				continue;
			}
			this.#round = draft;
			const { result, error } = await this.#commit(round);
			if (result?.ok === true) {
				attempt = 0;
				this.#store(round, result.firstRevision);
				this.#stored(draft, result.firstRevision);
			} else {
				for (const { slot } of round.staged) slot.forget();
				round.dropRows();
				const counting = this.#takeBack();
				if (result !== undefined && ++attempt < MAX_ATTEMPTS) {
					this.#forgetConflicts(result);
					this.#ready = [...[...units, ...draft.next].map(hadToWait), ...counting, ...this.#ready];
				} else {
					const refusal = storageRefusal(error ?? conflicts());
					this.#ready = [...draft.next, ...counting, ...this.#ready];
					// What waits while so much is left over that it goes alone would have failed as well, and not wait for ever.
					const refused = units.length > 0 ? units : this.#ready.splice(0);
					for (const queued of refused) this.#refuse(queued, refusal);
					// What is left over is taken away with the next write.
					if (this.#ready.length === 0) isStuck = true;
				}
			}
			this.#round = undefined;
			draft.settled.resolve();
			if (usage.isFull && this.#draft === undefined) usage.forgetAll();
			// A store that answers at once would otherwise keep the process to itself.
			if (!kv.capabilities.durable && this.#hasWork) await new Promise((resolve) => setImmediate(resolve));
		}
		this.#running = undefined;
	}

	get #hasWork(): boolean {
		return this.#ready.length > 0 || this.#draft !== undefined;
	}

	/** Decides of what is ready as much as one commit holds. */
	#decide(): void {
		if (this.#ready.length === 0 || this.#draft?.isFull === true || this.#leftovers.areMany) return;
		const draft = this.#openDraft();
		draft.round.now = this.#options.clock.now();
		const ready = this.#ready;
		// Those that come to be ready meanwhile go behind these.
		this.#ready = [];
		let at = 0;
		for (; at < ready.length && !draft.isFull; at++) {
			const queued = ready[at]!;
			const verdict = this.#decideOne(queued, draft.round);
			if (verdict === "taken") draft.units.push(queued);
			else if (verdict === "ending") draft.next.push(queued);
			else if (verdict === "full") {
				draft.isFull = true;
				break;
			}
		}
		if (at < ready.length) this.#ready = [...ready.slice(at), ...this.#ready];
	}

	#openDraft(): Draft {
		if (this.#draft === undefined) {
			const { clock, kv } = this.#options;
			const round = new WriteRound(++this.#drafts, clock.now(), kv.capabilities.commitWrites);
			const settled = Promise.withResolvers<void>();
			this.#draft = { round, units: [], next: [], taken: [], isFull: false, settled };
		}
		return this.#draft;
	}

	/** Makes the draft ready to be written, when nothing is on its way that it counts on. */
	#finishDraft(): Draft {
		const { stage, clock } = this.#options;
		const now = clock.now();
		if (this.#draft?.round.living.some((entry) => stage.endOf(entry, now) !== undefined)) {
			this.#ready = [...this.#takeBack(), ...this.#ready];
		}
		this.#decide();
		const draft = this.#openDraft();
		this.#draft = undefined;
		draft.taken = this.#leftovers.take(draft.round);
		draft.round.seal();
		for (const { slot } of draft.round.staged) slot.begin();
		return draft;
	}

	/** Undoes the draft. Gives its units, which are to be decided again. */
	#takeBack(): readonly Queued[] {
		const draft = this.#draft;
		if (draft === undefined) return [];
		this.#draft = undefined;
		draft.round.dropRows();
		draft.settled.resolve();
		return [...draft.units, ...draft.next].map(hadToWait);
	}

	#decideOne(queued: Queued, round: WriteRound): "taken" | "full" | "ending" | "settled" {
		try {
			if (queued instanceof QueuedEnd) return this.#evaluator.evaluateEnd(queued, round) ? "taken" : "full";
			if (queued.unit.signal?.aborted === true) throw new HubError("CANCELLED", "the call was cancelled");
			const verdict = this.#evaluator.evaluate(queued, round);
			if (typeof verdict === "string") return verdict;
			this.#letGo(queued);
			queued.settled(verdict, undefined, queued.unit);
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
	#store(round: WriteRound, firstRevision: number): void {
		for (const staged of round.staged) {
			if (staged instanceof StagedEnd) {
				staged.slot.settle(undefined);
				continue;
			}
			const { value, before, index, slot } = staged;
			const revision = firstRevision + index;
			value.settle(revision, before === undefined ? revision : before.createRevision);
			slot.settle(value);
		}
		round.settleRows(firstRevision);
		this.#options.onStored(round);
	}

	/** Tells units what they did. */
	#stored({ round, units, next, taken }: Draft, firstRevision: number): void {
		this.#leftovers.settle(round, taken);
		for (const queued of units) {
			this.#letGo(queued);
			if (queued instanceof QueuedEnd) {
				queued.settled();
				continue;
			}
			const { outcomes, unit } = queued;
			for (const outcome of outcomes) outcome.revision = outcome.revision < 0 ? 0 : firstRevision + outcome.revision;
			queued.stored?.();
			queued.settled({ results: outcomes, duplicate: false, transactionId: unit.transactionId }, undefined, unit);
		}
		if (next.length > 0) this.#ready = [...next, ...this.#ready];
	}

	/** Another hub has written, or a store was changed: what was read of it is not what is there. */
	#forgetConflicts({ conflicts }: Extract<KvCommitResult, { ok: false }>): void {
		for (const { key } of conflicts) {
			const entry = parseEntry(key);
			if (entry !== undefined) this.#options.cache.forget(entry.storeId, entry.key);
		}
		this.#options.usage.forgetAll();
	}

	#refuse(queued: Queued, error: unknown): void {
		this.#letGo(queued);
		if (queued instanceof QueuedEnd) queued.settled(error);
		else {
			countRefusal(queued.unit, error);
			queued.settled(undefined, error, queued.unit);
		}
	}

	#letGo(queued: Queued): void {
		releaseTurns(queued, this.#becomesReady);
		if (queued instanceof QueuedEnd) return;
		this.#waiting.leave(queued.share, queued.weight);
		const { request } = queued.unit;
		if (request === undefined) return;
		const key = keys.firstAnswer(request.principal, request.method, request.requestId);
		if (this.#requests.get(key)?.last === undefined) this.#requests.delete(key);
	}

	readonly #becomesReady = (queued: Queued): void => {
		this.#ready.push(queued);
	};
}

/** It is decided later than it came: what it was admitted by may be long ago. */
function hadToWait(queued: Queued): Queued {
	if (queued instanceof QueuedUnit) queued.hadToWait = true;
	return queued;
}

function draining(): HubError {
	return new HubError("HUB_DRAINING", "the hub is shutting down");
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
