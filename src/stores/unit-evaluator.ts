import { ChangeCause } from "#gen/qirvo/hub/v1/entries_pb.js";
import type { FailedCheck } from "../hub-error.ts";
import type { FirstAnswers } from "../idempotency/first-answers.ts";
import { type ExpectedRevision, meetsRevision } from "../state/expected-revision.ts";
import type { KvStore } from "../state/kv-store.ts";
import { answerOf, ENTRY_ANSWERS, repeated } from "./entry-answer.ts";
import type { EntryCache } from "./entry-cache.ts";
import { instanceNotFound, quotaExceeded, revisionMismatch, unitTooLarge } from "./entry-refusals.ts";
import type { EntrySlot } from "./entry-slot.ts";
import type { EntryStage, WrittenKey } from "./entry-stage.ts";
import { NO_VALIDATORS } from "./entry-validators.ts";
import type { AppendWrite, EntryWrite, IncrementWrite, SetWrite, WriteUnit, Written } from "./entry-write.ts";
import type { InstanceLeases } from "./instance-leases.ts";
import { addedTo, appendedTo } from "./json-values.ts";
import type { OpenStore } from "./open-store.ts";
import { jsonBody, withJsonBody } from "./payload-wire.ts";
import type { Outcome, QueuedEnd, QueuedUnit } from "./queued-unit.ts";
import { storeNotFound } from "./store-change.ts";
import { storeKeys } from "./store-keys.ts";
import { STORE_LIMITS } from "./store-limits.ts";
import type { StoredEntry } from "./stored-entry.ts";
import type { WriteRound } from "./write-round.ts";

export interface UnitEvaluatorOptions {
	readonly kv: KvStore;
	readonly cache: EntryCache;
	readonly stage: EntryStage;
	readonly answers: FirstAnswers;
	readonly leases: InstanceLeases;
	/** The store as it is now; undefined where this life of it is over. */
	readonly storeOf: (id: string) => OpenStore | undefined;
}

/**
 * What became of a unit: it is in the round; it does not fit, so it comes with the next; entries have to end first, which is in
 * the round now; or it was done before.
 */
export type Verdict = "taken" | "full" | "ending" | Written;

/** One write of a unit, and what is there. */
interface OneWrite extends WrittenKey {
	readonly write: EntryWrite;
}

/** Decides units against what is stored, one after another, and puts what they write into a round. No key is in two of them. */
export class UnitEvaluator {
	readonly #options: UnitEvaluatorOptions;

	constructor(options: UnitEvaluatorOptions) {
		this.#options = options;
	}

	/** Throws why the unit is refused; then nothing of it is in the round. */
	evaluate(queued: QueuedUnit, round: WriteRound): Verdict {
		const { request } = queued.unit;
		const known = request && this.#options.answers.known({ request, codec: ENTRY_ANSWERS });
		if (known !== undefined) return repeated(known);
		const wasEmpty = round.isEmpty;
		round.begin();
		try {
			const verdict = this.#evaluate(queued, round);
			if (verdict === "ending" || round.fits) return verdict;
		} catch (error) {
			round.rollBack();
			throw error;
		}
		round.rollBack();
		if (wasEmpty) throw unitTooLarge("more to write than one commit holds");
		return "full";
	}

	/** False: it did not fit. */
	evaluateEnd(queued: QueuedEnd, round: WriteRound): boolean {
		round.begin();
		try {
			this.#evaluateEnd(queued, round);
		} catch (error) {
			round.rollBack();
			throw error;
		}
		if (round.fits) return true;
		round.rollBack();
		return false;
	}

	#evaluateEnd(queued: QueuedEnd, round: WriteRound): void {
		const { slot, indexKey } = queued;
		const { storeId, key } = slot;
		const store = this.#options.storeOf(storeId);
		const entry = store && this.#options.cache.read(slot);
		if (store === undefined || entry === undefined) {
			// What is being removed goes as a whole, and what is being restored has its ends later.
			if (store === undefined && this.#options.kv.get(storeKeys.doomed(storeId)) !== undefined) return;
			round.write({ key: indexKey, delete: true });
		} else {
			const { expireTime, instanceId, writer } = entry.facts;
			const isIndex =
				(expireTime !== 0 && indexKey === storeKeys.expiry(expireTime, storeId, key)) ||
				(instanceId !== "" && indexKey === storeKeys.lease(writer, instanceId, storeId, key));
			const cause = this.#options.stage.endOf(entry, round.now);
			// The clock was stepped back: it ends when its time comes again.
			if (isIndex && cause === undefined) return;
			round.write({ key: indexKey, delete: true });
			if (isIndex) {
				this.#enter(store, round);
				this.#end(round, store, slot, entry);
				round.forsake(indexKey);
			}
		}
	}

	#evaluate(queued: QueuedUnit, round: WriteRound): Verdict {
		const { unit, slots } = queued;
		const { writes, writer, transactionId, request } = unit;
		const olds = this.#read(queued, round);
		if (olds === undefined) return "ending";
		const outcomes = new Array<Outcome>(writes.length);
		const answerIndex = request === undefined ? -1 : round.reserve();
		for (let at = 0; at < writes.length; at++) {
			const write = writes[at]!;
			const store = round.stores.get(write.store.id)!;
			outcomes[at] = this.#write(round, { write, store, slot: slots[at]!, old: olds[at], writer, transactionId });
		}
		requireShowable(outcomes);
		this.#requireRoom(round, writer);
		if (request !== undefined) {
			const answer = ENTRY_ANSWERS.encode(answerOf(outcomes, answerIndex, transactionId));
			const remembered = this.#options.answers.remember(request, answer);
			round.checks.push(remembered.check);
			round.fill(answerIndex, remembered.write);
			queued.stored = () => remembered.stored();
		}
		queued.outcomes = outcomes;
		return "taken";
	}

	/** What is there of what the unit writes, and whether all is as it expects. Undefined: entries have to end first. */
	#read(queued: QueuedUnit, round: WriteRound): readonly (StoredEntry | undefined)[] | undefined {
		const { unit, slots, checkSlots } = queued;
		const { now } = round;
		const { cache, stage } = this.#options;
		let failed: FailedCheck[] | undefined;
		const olds = new Array<StoredEntry | undefined>(unit.writes.length);
		let over: number[] | undefined;
		for (let at = 0; at < unit.checks.length; at++) {
			const { store, key, expected } = unit.checks[at]!;
			if (this.#enter(store, round) !== store || queued.hadToWait) this.#recheck(unit, store, "read");
			const slot = checkSlots[at]!;
			const entry = cache.read(slot);
			const isOver = entry !== undefined && stage.endOf(entry, now) !== undefined;
			if (entry?.mayEnd === true && !isOver) round.living.push(entry);
			round.checks.push({ key: slot.entryKey, revision: entry?.revision ?? 0 });
			failed = withFailed(failed, store, key, expected, isOver ? undefined : entry);
		}
		for (let at = 0; at < unit.writes.length; at++) {
			const write = unit.writes[at]!;
			if (this.#enter(write.store, round) !== write.store || queued.hadToWait)
				this.#recheck(unit, write.store, "write");
			let entry = cache.read(slots[at]!);
			if (entry?.mayEnd === true) {
				if (stage.endOf(entry, now) === undefined) round.living.push(entry);
				else {
					if (write.kind !== "delete") over = [...(over ?? []), at];
					entry = undefined;
				}
			}
			olds[at] = entry;
			if (write.kind === "set" || write.kind === "delete") {
				failed = withFailed(failed, write.store, write.key, write.expected, entry);
			}
		}
		if (failed !== undefined) throw revisionMismatch(failed);
		if (over === undefined) return olds;
		this.#endAll(queued, over, round);
		return undefined;
	}

	/** Ends entries whose time is over and that are to be written anew, as many as there is room for. */
	#endAll({ unit, slots }: QueuedUnit, over: readonly number[], round: WriteRound): void {
		for (const at of over) {
			round.begin();
			const slot = slots[at]!;
			this.#end(round, round.stores.get(unit.writes[at]!.store.id)!, slot, this.#options.cache.read(slot)!);
			if (round.fits) continue;
			round.rollBack();
			return;
		}
	}

	#end(round: WriteRound, store: OpenStore, slot: EntrySlot, entry: StoredEntry): void {
		const { stage } = this.#options;
		const cause = stage.endOf(entry, round.now)!;
		stage.end(round, store, slot, entry, { actor: "", cause, transactionId: "", time: round.now });
	}

	/** What was admitted some time ago may no longer be. A check of a store that is written to needs no more than the write. */
	#recheck({ writes, recheck }: WriteUnit, { id, name }: OpenStore, access: "read" | "write"): void {
		if (recheck === undefined) return;
		recheck(name, access === "read" && writes.some(({ store }) => store.id === id) ? "write" : access);
	}

	/** The store as it is now, on which the round depends. Refuses with STORE_NOT_FOUND. */
	#enter({ id, name }: OpenStore, round: WriteRound): OpenStore {
		const store = this.#options.storeOf(id);
		// Also where the round has it: what its rows were is forgotten by now.
		if (store === undefined) throw storeNotFound(name);
		const known = round.stores.get(id);
		// If it is not as it was, the round comes to nothing, and is decided again.
		if (known !== undefined) return known;
		round.stores.set(id, store);
		return store;
	}

	#write(round: WriteRound, one: OneWrite): Outcome {
		const { write, store, old } = one;
		switch (write.kind) {
			case "set":
				return this.#set(round, one, write);
			case "increment":
				return this.#increment(round, one, write);
			case "append":
				return this.#append(round, one, write);
			case "delete": {
				const previous = write.returnPrevious ? old?.wire : undefined;
				if (old === undefined) return { revision: -1, changed: false, previous, number: undefined };
				const end = {
					actor: one.writer,
					cause: ChangeCause.DELETED,
					transactionId: one.transactionId,
					time: round.now,
				} as const;
				const revision = this.#options.stage.end(round, store, one.slot, old, end);
				return { revision, changed: true, previous, number: undefined };
			}
		}
	}

	#set(round: WriteRound, one: OneWrite, { value, ttlMs, instanceId, returnPrevious }: SetWrite): Outcome {
		if (instanceId !== "" && !this.#options.leases.isLive(one.writer, instanceId)) throw instanceNotFound(instanceId);
		const revision = this.#put(round, one, value, expiry(round, ttlMs ?? one.store.defaultTtlMs), instanceId);
		const previous = returnPrevious ? one.old?.wire : undefined;
		return { revision, changed: true, previous, number: undefined };
	}

	#increment(round: WriteRound, one: OneWrite, { delta, ttlMs }: IncrementWrite): Outcome {
		const { text, number } = addedTo(presentJson(one.old), delta, "delta");
		const revision = this.#putJson(round, one, text, ttlMs);
		return { revision, changed: true, previous: undefined, number };
	}

	#append(round: WriteRound, one: OneWrite, { element, ttlMs }: AppendWrite): Outcome {
		const { text, changed } = appendedTo(presentJson(one.old), element, "element_json");
		const revision = changed ? this.#putJson(round, one, text, ttlMs) : -1;
		return { revision, changed, previous: undefined, number: undefined };
	}

	/** The end of an entry that is there stays, where the write does not say otherwise. */
	#putJson(round: WriteRound, one: OneWrite, json: string, ttlMs: number | undefined): number {
		const { old, store, writer } = one;
		const value = withJsonBody(old?.value, json);
		const expireTime =
			ttlMs === undefined && old !== undefined ? old.facts.expireTime : expiry(round, ttlMs ?? store.defaultTtlMs);
		// An entry lives by an instance of its own writer alone.
		return this.#put(round, one, value, expireTime, old?.facts.writer === writer ? old.facts.instanceId : "");
	}

	#put(round: WriteRound, one: OneWrite, value: Uint8Array, expireTime: number, instanceId: string): number {
		const { store, slot, old, writer } = one;
		if (store.validators !== NO_VALIDATORS) {
			const oldValue = old?.value;
			const refusal = store.validators.check({ store: store.name, key: slot.key, value, oldValue, writer });
			if (refusal !== undefined) throw refusal;
		}
		return this.#options.stage.put(round, one, value, expireTime, instanceId);
	}

	/** Refuses with QUOTA_EXCEEDED what makes more of a store, or of the writer's share of it, than there may be. */
	#requireRoom(round: WriteRound, writer: string): void {
		for (let at = 0; at < round.counted; at++) {
			const { row, keys, bytes } = round.countedRow(at);
			if (row.pluginId !== "" && row.pluginId !== writer) continue;
			const { name, quota, pluginQuota } = round.stores.get(row.storeId)!;
			const most = row.pluginId === "" ? quota : pluginQuota;
			if (row.nextKeys > keys && row.nextKeys > most.keys) throw quotaExceeded(name, row.pluginId, "keys", most.keys);
			if (row.nextBytes > bytes && row.nextBytes > most.bytes) {
				throw quotaExceeded(name, row.pluginId, "bytes", most.bytes);
			}
		}
	}
}

/** Refuses with LIMIT_EXCEEDED a unit that would show more of what was there than an answer holds. */
function requireShowable(outcomes: readonly Outcome[]): void {
	if (outcomes.length === 1) return;
	let bytes = 0;
	for (const { previous } of outcomes) if (previous !== undefined) bytes += previous.byteLength;
	const most = STORE_LIMITS.previousBytes;
	if (bytes > most) throw unitTooLarge(`${bytes} bytes of entries as they were to show, more than ${most}`);
}

function withFailed(
	failed: FailedCheck[] | undefined,
	store: OpenStore,
	key: string,
	expected: ExpectedRevision,
	entry: StoredEntry | undefined,
): FailedCheck[] | undefined {
	const actual = entry?.revision ?? 0;
	if (meetsRevision(expected, actual)) return failed;
	const one = { store: store.name, key, expected, actual };
	return failed === undefined ? [one] : [...failed, one];
}

function expiry({ now }: WriteRound, ttlMs: number): number {
	return ttlMs === 0 ? 0 : now + ttlMs;
}

/** The JSON text of an entry; undefined: there is no entry. Of a value that is no JSON, one that nothing can be added to. */
function presentJson(entry: StoredEntry | undefined): string | undefined {
	return entry === undefined ? undefined : (jsonBody(entry.value) ?? "");
}
