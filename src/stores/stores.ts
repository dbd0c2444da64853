import type { Clock, IdSource } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import type { FirstAnswers } from "../idempotency/first-answers.ts";
import type { StateBackend } from "../state/state-backend.ts";
import { EntryKeyspace } from "./entry-keyspace.ts";
import type { EntryPage, EntryQuery, VersionPage } from "./entry-query.ts";
import { mixedPersistence, unitTooLarge } from "./entry-refusals.ts";
import type { CompileValidators } from "./entry-validators.ts";
import type { UnitSettled, WriteUnit } from "./entry-write.ts";
import type { InstanceLeases } from "./instance-leases.ts";
import type { OpenStore } from "./open-store.ts";
import { StoreDefinitions } from "./store-definitions.ts";
import { STORE_LIMITS } from "./store-limits.ts";
import { unitCost } from "./unit-cost.ts";

export interface StoresOptions {
	readonly state: Pick<StateBackend, "kv" | "volatileKv">;
	/** First answers in `state.kv`, and in `state.volatileKv`. */
	readonly answers: FirstAnswers;
	readonly volatileAnswers: FirstAnswers;
	readonly clock: Clock;
	readonly ids: IdSource;
	readonly leases: InstanceLeases;
	readonly compile: CompileValidators;
	/** Told of faults that no caller waits for. */
	readonly onFault: (what: string, error: unknown) => void;
	/** Bytes of entries that are held in memory for each kind of store, about. Default 128 MiB. */
	readonly cacheBytes?: number | undefined;
}

/** The stores and their entries, of either kind. */
export class Stores implements AsyncDisposable {
	readonly definitions: StoreDefinitions;
	readonly #persistent: EntryKeyspace;
	readonly #volatile: EntryKeyspace;

	constructor(options: StoresOptions) {
		const { state, answers, volatileAnswers } = options;
		const storeOf = (id: string) => this.definitions.byId(id);
		this.#persistent = new EntryKeyspace({ ...options, kv: state.kv, answers, storeOf });
		this.#volatile = new EntryKeyspace({ ...options, kv: state.volatileKv, answers: volatileAnswers, storeOf });
		this.definitions = new StoreDefinitions({
			...options,
			persistent: { kv: state.kv, answers },
			volatile: { kv: state.volatileKv, answers: volatileAnswers },
			usage: (store) => this.keyspaceOf(store).usage.holdings(store.id),
		});
		this.definitions.onChange((_name, before, after) => {
			if (before === undefined || before.id === after?.id) return;
			this.keyspaceOf(before).remove(before.id);
		});
	}

	/** Loads the stores, and takes up what an earlier run left to be ended and removed. */
	async start(): Promise<void> {
		await this.definitions.start();
		for (const keyspace of [this.#persistent, this.#volatile]) keyspace.start();
	}

	/** Units that wait or are being written. */
	get waiting(): number {
		return this.#persistent.writer.waiting + this.#volatile.writer.waiting;
	}

	/** Where the entries of a store are. */
	keyspaceOf(store: Pick<OpenStore, "persistent">): EntryKeyspace {
		return store.persistent ? this.#persistent : this.#volatile;
	}

	/**
	 * Writes. `settled` is called once, later, with what was written or the reason why nothing was: STORE_NOT_FOUND,
	 * REVISION_MISMATCH (with all `failedChecks`), VALIDATION_FAILED, VALUE_MISMATCH, QUOTA_EXCEEDED, INSTANCE_NOT_FOUND,
	 * LIMIT_EXCEEDED, MIXED_PERSISTENCE, INVALID_FIELD, INVALID_CONTENT, ID_REUSED, CANCELLED, HUB_DRAINING, STORAGE_FULL,
	 * STORAGE_UNAVAILABLE (then it may have been written).
	 */
	submit<U extends WriteUnit>(unit: U, settled: UnitSettled<U>): void {
		const { writes, checks } = unit;
		const first = writes[0]?.store ?? checks[0]?.store;
		const refusal =
			first === undefined ? nothingToDo() : writes.length + checks.length > 1 ? refusalOf(unit) : undefined;
		if (refusal !== undefined) queueMicrotask(() => settled(undefined, refusal, unit));
		else this.keyspaceOf(first!).writer.submit(unit, settled);
	}

	/** The entry in wire form with its revisions, which must not be changed; undefined: there is none. */
	get(store: OpenStore, key: string): Uint8Array | undefined {
		return this.keyspaceOf(store).reader.get(store, key);
	}

	/** Entries in the order of the bytes of their keys. */
	list(store: OpenStore, query: EntryQuery): EntryPage {
		return this.keyspaceOf(store).reader.list(store, query);
	}

	/** At most `limit` versions that are older than revision `before`; undefined: from the newest. */
	history(
		store: OpenStore,
		key: string,
		query: { readonly limit: number; readonly before: number | undefined },
	): VersionPage {
		return this.keyspaceOf(store).reader.history(store, key, query);
	}

	/** Resolves once nothing is being written, ended or removed. */
	async idle(): Promise<void> {
		for (const { ends, removal, writer } of [this.#persistent, this.#volatile]) {
			await ends.idle();
			await removal.idle();
			await writer.idle();
		}
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.definitions[Symbol.asyncDispose]();
		await this.#persistent[Symbol.asyncDispose]();
		await this.#volatile[Symbol.asyncDispose]();
	}
}

/** What is wrong with a unit of several operations, whatever the state. */
function refusalOf(unit: WriteUnit): HubError | undefined {
	const { writes, checks } = unit;
	const { persistent } = (writes[0] ?? checks[0])!.store;
	if (writes.length + checks.length > STORE_LIMITS.unitOperations) {
		return unitTooLarge(`more than ${STORE_LIMITS.unitOperations} operations`);
	}
	const cost = unitCost(writes);
	if (cost > STORE_LIMITS.unitCost) return unitTooLarge(`a cost of ${cost}, more than ${STORE_LIMITS.unitCost}`);
	const isMixed = [...writes, ...checks].some(({ store }) => store.persistent !== persistent);
	if (isMixed) return mixedPersistence();
	const seen = new Set<string>();
	for (const [index, { store, key }] of writes.entries()) {
		const name = `${store.id}/${key}`;
		if (seen.has(name)) return HubError.field(`writes[${index}]`, "writes a key that another one writes");
		seen.add(name);
	}
	return undefined;
}

function nothingToDo(): HubError {
	return HubError.field("writes", "must not be empty where there are no checks");
}
