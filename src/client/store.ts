import { Backoff } from "../streams/backoff.ts";
import type { ClientContext } from "./client-context.ts";
import { toDuration } from "./durations.ts";
import { HubClientError } from "./errors.ts";
import { toExpectedState } from "./expected.ts";
import type { OperationEncoder } from "./operation-encoder.ts";
import { pause } from "./pause.ts";
import { type Data, toJson } from "./payload.ts";
import type { AnswerTaker, OperationFate } from "./pending-operation.ts";
import type { CallOptions } from "./repeat-call.ts";
import { type CacheOptions, StoreCache } from "./store-cache.ts";
import type { StoreChange } from "./store-change.ts";
import { type AnyEntry, StoreEntry, viewEntry } from "./store-entry.ts";
import {
	type AddOptions,
	checkKey,
	type ExpectingOptions,
	type Incremented,
	invalid,
	repeatOf,
	type SetOptions,
	type WriteOptions,
	type Written,
} from "./store-options.ts";
import {
	type HistoryOptions,
	type StoreListOptions,
	StoreReads,
	type StoreSnapshot,
	type StoreVersion,
} from "./store-reads.ts";
import { checkValue, type StoreSchema } from "./store-schema.ts";
import type { StoreTraffic } from "./store-traffic.ts";
import { type Transacted, TransactionParts, TransactionRecorder, toDelta, transactedOf } from "./store-transaction.ts";
import {
	type ChangeHandler,
	StoreWatch,
	streamChanges,
	type WatchHooks,
	type WatchStreamOptions,
} from "./store-watch.ts";
import type { WriteAnswer } from "./write-answer.ts";

export interface StoreOptions<T> {
	/** Judges and types values, on reads and on writes. While one that gives promises judges a write, later writes may pass it. */
	readonly schema?: StoreSchema<T>;
	/**
	 * Keeps entries here by a watch, from the first `get` on, so that `get` answers without the hub: with what was so a moment ago, never
	 * older than what this client wrote or what the same `get` gave before. Where the watch is not caught up, and for keys that there is
	 * no room for, the hub is asked. `list`, `update` and the like always ask it. `true`: every key within the default bounds.
	 */
	readonly cache?: CacheOptions | boolean;
}

export interface UpdateOptions extends CallOptions {
	/** How often `change` is called at most, 1 or more. Default 10. */
	readonly attempts?: number;
	/** As of `set`. */
	readonly ttl?: number;
	/** As of `set`. */
	readonly ephemeral?: boolean;
}

/** What an update came to. */
export interface Updated<T> {
	/** Of the entry that is there now; undefined: there is none. */
	readonly revision: bigint | undefined;
	/** Undefined: there is none. */
	readonly value: T | undefined;
	/** False: `change` gave undefined, and nothing was written. */
	readonly changed: boolean;
}

const FIRST_RETRY_MS = 5;
const LONGEST_RETRY_MS = 500;
const NO_OPTIONS = {};

/**
 * The entries of one store.
 *
 * Gets and writes travel in small batches on one stream, at most 16,384 at once; more wait. On a stream the writes of one key take
 * effect in the order of their calls; where there is none (browsers), and with a `requestId`, a call that is awaited before the next
 * one keeps the order.
 *
 * When the connection breaks before an answer, reads are repeated. So are writes that expect an exact revision, for they cannot
 * happen twice, and those that say that they are `idempotent` or have a `requestId`. Any other fails with OUTCOME_UNKNOWN: it may have
 * been done. So does a write of an exact revision whose repeat finds another one: it may be its own. What was not sent yet waits for
 * the next connection, within its `timeout`.
 */
export class Store<T = Data> implements Disposable {
	readonly name: string;
	readonly schema: StoreSchema<T> | undefined;
	readonly context: ClientContext;
	readonly #traffic: StoreTraffic;
	readonly #reads: StoreReads<T>;
	readonly #cache: StoreCache | undefined;
	readonly #ends: Disposable[] = [];
	/** Of gets and writes without options. */
	readonly #plainGet: OperationFate<StoreEntry<T> | undefined>;
	readonly #plainWrite: OperationFate<Written<T>>;

	constructor(traffic: StoreTraffic, name: string, { schema, cache }: StoreOptions<T> = {}) {
		this.name = name;
		this.schema = schema;
		this.context = traffic.context;
		this.#traffic = traffic;
		this.#reads = new StoreReads(this, traffic.client);
		const common = { store: name, ...this.#bounds({}) };
		// A promise of a view becomes the view of whoever waits.
		const entry = (read: AnyEntry | undefined) => this.#view(read) as StoreEntry<T> | undefined;
		this.#plainGet = { ...common, repeat: "always", taker: { entry } };
		this.#plainWrite = { ...common, repeat: "never", taker: WRITTEN as AnswerTaker<Written<T>> };
		if (cache === undefined || cache === false) return;
		this.#cache = new StoreCache(this.context, name, cache === true ? {} : cache);
		this.#ends.push(traffic.addCache(name, this.#cache), this.#cache);
	}

	/** The entry; undefined: there is none. From the cache where that has it. Rejects with VALIDATION_FAILED where the schema refuses. */
	get(key: string, options: CallOptions = NO_OPTIONS): Promise<StoreEntry<T> | undefined> {
		const cache = this.#cache;
		if (cache === undefined) return this.#read(key, options);
		cache.start();
		const known = cache.get(key);
		if (known === "unknown") {
			return this.#read(key, options).then((entry) => {
				cache.wasRead(key, entry?.revision);
				return entry;
			});
		}
		return Promise.resolve(known === "missing" ? undefined : this.#view(known));
	}

	/** Writes a value: JSON, or bytes where it is a `Uint8Array`. */
	set(key: string, value: T, options: SetOptions = NO_OPTIONS): Promise<Written<T>> {
		if (this.schema === undefined && options.ephemeral !== true) return this.#set(key, value, options, "");
		return this.#setChecked(key, value, options);
	}

	/** Deletes the entry. Where there is none nothing happens, unless one is expected. */
	delete(key: string, options: ExpectingOptions = NO_OPTIONS): Promise<Written<T>> {
		const { expected, returnPrevious = false } = options;
		return this.#write(key, options, typeof expected === "bigint", () => ({
			case: "delete",
			value: { store: this.name, key, expected: toExpectedState(expected), returnPrevious },
		}));
	}

	/** Adds to a whole number; a missing entry counts from 0. Rejects with VALUE_MISMATCH where the value is none. */
	async increment(key: string, by = 1, options: AddOptions = NO_OPTIONS): Promise<Incremented> {
		return await this.#operate<Incremented>(
			key,
			options,
			false,
			() => ({
				case: "increment",
				value: { store: this.name, key, delta: toDelta(by), ttl: durationOf(options.ttl) },
			}),
			{ write: ({ number, revision }) => ({ value: Number(number), revision }) },
		);
	}

	/** Appends an element to a JSON array unless an equal one is in it; a missing entry counts as empty. */
	append(key: string, element: Data, options: AddOptions = NO_OPTIONS): Promise<Written<T>> {
		return this.#write(key, options, false, () => ({
			case: "append",
			value: { store: this.name, key, elementJson: toJson(element), ttl: durationOf(options.ttl) },
		}));
	}

	/**
	 * Writes what `change` makes of the present value, and calls it again with the new one where another write came between: at most
	 * `attempts` times, waiting a little longer each time; then it rejects with the last REVISION_MISMATCH. Where `change` gives
	 * undefined nothing is written. What it gives is written once, whatever becomes of the connection.
	 */
	async update(
		key: string,
		change: (value: T | undefined, entry: StoreEntry<T> | undefined) => T | undefined | Promise<T | undefined>,
		options: UpdateOptions = NO_OPTIONS,
	): Promise<Updated<T>> {
		const { attempts = 10, ...rest } = options;
		const { clock, random, ids, session } = this.context;
		const backoff = new Backoff({ initialMs: FIRST_RETRY_MS, maxMs: LONGEST_RETRY_MS, random });
		const signal = rest.signal ? AbortSignal.any([rest.signal, session.signal]) : session.signal;
		while (true) {
			const entry = await this.#read(key, rest);
			const value = await change(entry?.value, entry);
			if (value === undefined) return { revision: entry?.revision, value: entry?.value, changed: false };
			try {
				const expected = entry?.revision ?? "absent";
				const { revision } = await this.set(key, value, { ...rest, expected, requestId: ids.next() });
				return { revision, value, changed: true };
			} catch (error) {
				const isOvertaken = error instanceof HubClientError && error.reason === "REVISION_MISMATCH";
				if (!isOvertaken || backoff.attempts + 1 >= attempts) throw error;
			}
			await pause(clock, backoff.next(), signal);
		}
	}

	/**
	 * Checks and writes of many keys, all or none. `record` is told what, at once; `in` takes the transaction to other stores.
	 *
	 * ```ts
	 * await accounts.transact((tx) => tx.check("ada", seen.revision).increment("ada", -5).increment("bob", 5));
	 * ```
	 *
	 * Rejects with REVISION_MISMATCH, whose `failedChecks` are all that did not hold.
	 */
	async transact(
		record: (tx: TransactionRecorder<T>) => unknown,
		options: WriteOptions = NO_OPTIONS,
	): Promise<Transacted> {
		const parts = new TransactionParts();
		record(new TransactionRecorder(parts, this));
		const instanceId = parts.isEphemeral ? await this.#instanceId(options) : "";
		const writes = await parts.writes(instanceId);
		const { checks, targets } = parts;
		const fate = { ...this.#fate(options, parts.expectsRevision, TRANSACTED), targets };
		return await this.#traffic.submit("", fate, (encoder, id) =>
			encoder.message(id, { case: "transact", value: { checks, writes } }),
		);
	}

	/** Entries in the order of their keys, a page at a time. Each page is of one moment; for all of one moment take a `snapshot`. */
	list(options: StoreListOptions = NO_OPTIONS): AsyncGenerator<StoreEntry<T>, void, undefined> {
		return this.#reads.list(options);
	}

	/** The same of the keys alone. */
	keys(options: StoreListOptions = NO_OPTIONS): AsyncGenerator<string, void, undefined> {
		return this.#reads.keys(options);
	}

	/** All entries as they are at one moment, whose position a watch can start after. Held in memory whole. */
	snapshot(options: CallOptions & { readonly glob?: string } = NO_OPTIONS): Promise<StoreSnapshot<T>> {
		return this.#reads.snapshot(options);
	}

	/** The versions of a key, newest first, as many as the store keeps. */
	history(key: string, options: HistoryOptions = NO_OPTIONS): AsyncGenerator<StoreVersion<T>, void, undefined> {
		return this.#reads.history(key, options);
	}

	/**
	 * What is there and then every change, once and in order, over all losses of the connection. Leaving the loop ends the watch.
	 * Where the hub no longer has the changes that were missed, the difference to a new snapshot is told, marked `resynced`.
	 */
	watch(options: WatchStreamOptions = NO_OPTIONS): AsyncGenerator<StoreChange<T>, void, undefined> {
		return streamChanges(this, options);
	}

	/** The same for a handler. Resolves once all that was there has been passed to it. Rejects where the hub refuses. */
	async onChange(handler: ChangeHandler<T>, hooks: WatchHooks = NO_OPTIONS): Promise<StoreWatch<T>> {
		const watch = new StoreWatch(this, handler, hooks);
		await watch.caughtUp;
		return watch;
	}

	/** Resolves once the cache answers. Without a cache at once. */
	async warm(): Promise<void> {
		await this.#cache?.live();
	}

	/** Ends the cache. Watches go on. */
	[Symbol.dispose](): void {
		for (const end of this.#ends) end[Symbol.dispose]();
	}

	#view(entry: AnyEntry | undefined): StoreEntry<T> | undefined | Promise<StoreEntry<T> | undefined> {
		if (entry === undefined) return undefined;
		if (this.schema === undefined) return new StoreEntry<T>(entry);
		const view = viewEntry(entry, this.schema);
		return view instanceof Promise ? view.then(judged) : judged(view);
	}

	#read(key: string, options: CallOptions): Promise<StoreEntry<T> | undefined> {
		const fate = options === NO_OPTIONS ? this.#plainGet : { ...this.#plainGet, ...this.#bounds(options) };
		return this.#traffic.submit(key, fate, (encoder, id) => {
			checkKey(key);
			return encoder.get(id, this.name, key);
		});
	}

	async #setChecked(key: string, value: T, options: SetOptions): Promise<Written<T>> {
		const checked = this.schema ? await checkValue(this.schema, key, value) : { value };
		if ("error" in checked) throw checked.error;
		return await this.#set(key, checked.value, options, options.ephemeral ? await this.#instanceId(options) : "");
	}

	#set(key: string, value: T, options: SetOptions, instanceId: string): Promise<Written<T>> {
		const isExact = typeof options.expected === "bigint";
		const fate = options === NO_OPTIONS ? this.#plainWrite : this.#fate(options, isExact, this.#plainWrite.taker);
		return this.#traffic.submit(key, fate, (encoder, id) => {
			checkKey(key);
			return encoder.set(id, this.name, key, value, instanceId === "" ? options : { ...options, instanceId });
		});
	}

	#write(key: string, options: WriteOptions, isExact: boolean, operation: () => Operation): Promise<Written<T>> {
		return this.#operate(key, options, isExact, operation, this.#plainWrite.taker);
	}

	#operate<R>(
		key: string,
		options: WriteOptions,
		isExact: boolean,
		operation: () => Operation,
		taker: AnswerTaker<R>,
	): Promise<R> {
		const fate = this.#fate(options, isExact, taker);
		return this.#traffic.submit(key, fate, (encoder, id) => {
			checkKey(key);
			return encoder.message(id, operation());
		});
	}

	#fate<R>(options: WriteOptions, isExact: boolean, taker: AnswerTaker<R>): OperationFate<R> {
		const { idempotent, requestId } = options;
		return { taker, store: this.name, repeat: repeatOf(idempotent, isExact), requestId, ...this.#bounds(options) };
	}

	#bounds({ timeout = this.context.callTimeoutMs, signal }: CallOptions) {
		return { timeoutMs: timeout, signal };
	}

	/** Of the lease that this client holds. */
	async #instanceId({ signal }: CallOptions): Promise<string> {
		const { instanceId } = await this.context.session.connected(signal);
		if (instanceId === "") throw invalid("ephemeral", "needs a client with a manifest, which holds a lease");
		return instanceId;
	}
}

type Operation = Parameters<OperationEncoder["message"]>[1];

const WRITTEN: AnswerTaker<Written> = {
	write: ({ revision, changed, previous }: WriteAnswer) => ({
		revision,
		changed,
		previous: previous && new StoreEntry(previous),
	}),
};

const TRANSACTED: AnswerTaker<Transacted> = { transaction: transactedOf };

/** Fails where the schema refused the value. */
function judged<T>(entry: StoreEntry<T>): StoreEntry<T> {
	void entry.value;
	return entry;
}

function durationOf(ttl: number | undefined) {
	return ttl === undefined ? undefined : toDuration(ttl);
}
