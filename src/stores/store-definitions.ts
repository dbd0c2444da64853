import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Store, type StoreConfig, StoreSchema } from "#gen/qirvo/hub/v1/stores_pb.js";
import type { Clock, IdSource } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import type { FirstAnswers, Once, Settled } from "../idempotency/first-answers.ts";
import { repeatUnknown, storageRefusal } from "../idempotency/storage-refusal.ts";
import { requireRevision } from "../state/expected-revision.ts";
import { KeyFollower } from "../state/key-follower.ts";
import { compareKeys } from "../state/key-order.ts";
import { KV_LIMITS, type KvEntry, type KvStore, type KvWrite } from "../state/kv-store.ts";
import { prefixEnd } from "../state/state-backend.ts";
import { type CompileValidators, type EntryValidators, NO_VALIDATORS } from "./entry-validators.ts";
import { OpenStore, type StoreHoldings } from "./open-store.ts";
import {
	type ChangedStore,
	decodeStore,
	encodeStore,
	STORE_ANSWERS,
	type StoreChange,
	type StoreListener,
	storeExists,
	storeNotFound,
	tooManyStores,
} from "./store-change.ts";
import { fillStoreConfig } from "./store-config.ts";
import { storeKeys, storePrefixes } from "./store-keys.ts";
import { STORE_LIMITS } from "./store-limits.ts";

/** Where stores of one kind are kept, and the first answers to what changes them. */
export interface StoreKeyspace {
	readonly kv: KvStore;
	readonly answers: FirstAnswers;
}

export interface StoreDefinitionsOptions {
	readonly persistent: StoreKeyspace;
	/** Of stores that end with the process, whole. */
	readonly volatile: StoreKeyspace;
	readonly clock: Clock;
	readonly ids: IdSource;
	readonly compile: CompileValidators;
	/** Asks what a store holds. */
	readonly usage: (store: { readonly id: string; readonly persistent: boolean }) => StoreHoldings;
	/** Told of faults that no caller waits for. */
	readonly onFault: (what: string, error: unknown) => void;
}

/** A page of stores. */
export interface StorePage {
	readonly stores: readonly OpenStore[];
	/** What to ask after for the next page; undefined: this was the last. */
	readonly next: string | undefined;
}

/** What a change makes of a store; undefined: nothing, it is deleted. */
type Draft = { readonly before: OpenStore | undefined; readonly after: Store | undefined };

/**
 * The stores: what they are and who may use them. All of them are held in memory; changes are made one at a time, and a name
 * belongs to one store of both kinds.
 *
 * A store that is deleted leaves a mark for `StoreRemoval` in the same commit: what it held is removed behind it.
 */
export class StoreDefinitions implements AsyncDisposable {
	readonly #options: StoreDefinitionsOptions;
	readonly #byName = new Map<string, OpenStore>();
	readonly #byId = new Map<string, OpenStore>();
	readonly #perOwner = new Map<string, number>();
	readonly #listeners = new Set<StoreListener>();
	readonly #follower: KeyFollower;
	/** The names in order; undefined: some came or went. */
	#names: readonly string[] | undefined;
	#tail: Promise<unknown> = Promise.resolve();

	constructor(options: StoreDefinitionsOptions) {
		this.#options = options;
		this.#follower = new KeyFollower({
			kv: options.persistent.kv,
			clock: options.clock,
			prefix: storePrefixes.definitions,
			changed: (changes) => {
				for (const { key } of changes) this.#follow(key.slice(storePrefixes.definitions.length));
			},
			missed: () => this.#followAll(),
		});
	}

	/** Loads what is stored, and follows what other hubs change. */
	async start(): Promise<void> {
		this.#follower.start();
		for (const { kv } of [this.#options.persistent, this.#options.volatile]) {
			for (const entry of definitionsIn(kv)) await this.#take(decodeStore(entry.value), entry.revision);
		}
	}

	/** How many there are. */
	get size(): number {
		return this.#byName.size;
	}

	find(name: string): OpenStore | undefined {
		return this.#byName.get(name);
	}

	/** The store as it is now; undefined where this life of it is over. */
	byId(id: string): OpenStore | undefined {
		return this.#byId.get(id);
	}

	/** In order of their names, behind `after`: at most `limit` of those that `admits` lets through, of one owner or of all. */
	page(
		limit: number,
		after: string | undefined,
		admits: (store: OpenStore) => boolean,
		owner: string | undefined = undefined,
	): StorePage {
		this.#names ??= [...this.#byName.keys()].sort(compareKeys);
		const stores: OpenStore[] = [];
		for (let at = after === undefined ? 0 : indexAfter(this.#names, after); at < this.#names.length; at++) {
			const store = this.#byName.get(this.#names[at]!)!;
			if ((owner !== undefined && store.owner !== owner) || !admits(store)) continue;
			if (stores.length === limit) return { stores, next: stores.at(-1)!.name };
			stores.push(store);
		}
		return { stores, next: undefined };
	}

	/** All of them, in no order. */
	all(): IterableIterator<OpenStore> {
		return this.#byName.values();
	}

	/**
	 * Makes a store. `config` is within its bounds. Rejects with STORE_EXISTS, LIMIT_EXCEEDED, INVALID_FIELD (a validator), and as
	 * `FirstAnswers.settle` does. `id`: what is stored under it already is the new store's, and its mark of doom is taken away.
	 */
	create(
		name: string,
		owner: string,
		config: StoreConfig | undefined,
		change: StoreChange,
		id: string = this.#options.ids.next(),
	): Promise<ChangedStore> {
		return this.#change(name, change, () => {
			if (this.#byName.has(name)) throw storeExists(name);
			if (this.#byName.size >= STORE_LIMITS.stores) throw tooManyStores(undefined);
			this.#requireRoom(owner);
			const now = timestampFromMs(this.#options.clock.now());
			const after = { name, owner, config: fillStoreConfig(config), epoch: id, createTime: now, updateTime: now };
			return { before: undefined, after: create(StoreSchema, after) };
		});
	}

	/** Replaces the configuration. Rejects with STORE_NOT_FOUND, REVISION_MISMATCH, INVALID_FIELD, and as `FirstAnswers.settle`. */
	update(name: string, config: StoreConfig, change: StoreChange): Promise<ChangedStore> {
		return this.#change(name, change, () => {
			const before = this.#require(name);
			const filled = fillStoreConfig(config, before.persistent);
			if (filled.persistent !== before.persistent) throw HubError.field("config.persistent", "cannot be changed");
			return { before, after: this.#changed(before, { config: filled }) };
		});
	}

	/** Rejects with STORE_NOT_FOUND, REVISION_MISMATCH, and as `FirstAnswers.settle` does. */
	delete(name: string, change: StoreChange): Promise<ChangedStore> {
		return this.#change(name, change, () => ({ before: this.#require(name), after: undefined }));
	}

	/** Rejects with STORE_NOT_FOUND, REVISION_MISMATCH, LIMIT_EXCEEDED, and as `FirstAnswers.settle` does. */
	transfer(name: string, newOwner: string, change: StoreChange): Promise<ChangedStore> {
		return this.#change(name, change, () => {
			const before = this.#require(name);
			if (newOwner !== before.owner) this.#requireRoom(newOwner);
			return { before, after: this.#changed(before, { owner: newOwner }) };
		});
	}

	onChange(listener: StoreListener): Disposable {
		this.#listeners.add(listener);
		return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
	}

	/** A store as it was told of, which need not be there any more. */
	show(stored: Store, revision: number, validators?: EntryValidators): OpenStore {
		const { usage } = this.#options;
		const persistent = stored.config?.persistent ?? true;
		const activity = this.#byId.get(stored.epoch)?.activity;
		return new OpenStore({
			stored,
			revision,
			...(validators && { validators }),
			...(activity && { activity }),
			usage: (id) => usage({ id, persistent }),
		});
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.#follower[Symbol.asyncDispose]();
		await this.#tail;
		this.#listeners.clear();
	}

	/** One change at a time: what a draft sees is what the commit finds. */
	#serially<T>(run: () => Promise<T>): Promise<T> {
		const result = this.#tail.then(run);
		this.#tail = result.catch(() => {});
		return result;
	}

	#change(name: string, change: StoreChange, draft: () => Draft): Promise<ChangedStore> {
		return this.#serially(async () => {
			const { expected, validateOnly, request } = change;
			const once = request === undefined || validateOnly ? undefined : { request, codec: STORE_ANSWERS };
			const known = once && this.#known(once);
			if (known !== undefined) {
				return { store: this.show(known.answer, known.firstRevision), duplicate: true, stored: false };
			}
			change.admit?.();
			const { before, after } = draft();
			requireRevision(expected, before?.revision ?? 0, { type: "store", name });
			const validators = after && (await this.#compile(after));
			if (validateOnly) {
				const store = after === undefined ? before! : this.show(after, before?.revision ?? 0, validators);
				return { store, duplicate: false, stored: false };
			}
			const revision = await this.#commit({ before, after }, change.also, once);
			const store = after === undefined ? before! : this.show(after, revision, validators);
			this.#set(name, after && store);
			return { store, duplicate: false, stored: true };
		});
	}

	/** In whichever keyspace the first one was answered. */
	#known(once: Once<Store>): Settled<Store> | undefined {
		return this.#options.persistent.answers.known(once) ?? this.#options.volatile.answers.known(once);
	}

	/** Gives the revision of the definition. */
	async #commit({ before, after }: Draft, also: readonly KvWrite[], once: Once<Store> | undefined): Promise<number> {
		const { persistent, volatile } = this.#options;
		const { name, epoch, config } = after ?? { name: before!.name, epoch: before!.id, config: before!.config };
		const isPersistent = config?.persistent ?? true;
		if (!isPersistent && also.length > 0) await this.#commitApart(also);
		const { kv, answers } = isPersistent ? persistent : volatile;
		const key = storeKeys.definition(name);
		const plan = () => {
			const doomed = storeKeys.doomed(epoch);
			const writes: KvWrite[] = [after === undefined ? { key, delete: true } : { key, value: encodeStore(after) }];
			if (after === undefined) writes.push({ key: doomed, value: new Uint8Array() });
			else if (before === undefined && kv.get(doomed) !== undefined) writes.push({ key: doomed, delete: true });
			if (isPersistent) writes.push(...also);
			if ((kv.get(key)?.revision ?? 0) !== (before?.revision ?? 0)) throw changedElsewhere();
			return { checks: [{ key, revision: before?.revision ?? 0 }], writes, answer: after ?? before!.show() };
		};
		return (await answers.settle(plan, once)).firstRevision;
	}

	async #commitApart(writes: readonly KvWrite[]): Promise<void> {
		try {
			await repeatUnknown(this.#options.persistent.kv, { id: this.#options.ids.next(), writes });
		} catch (error) {
			throw storageRefusal(error);
		}
	}

	async #compile(store: Store, stored?: "stored"): Promise<EntryValidators> {
		const validators = store.config?.validators ?? [];
		return validators.length === 0 ? NO_VALIDATORS : await this.#options.compile(validators, stored);
	}

	/** Takes over what is stored, unless it is known. Where its validators cannot be had now, nothing can be written. */
	async #take(stored: Store, revision: number): Promise<void> {
		if (this.#byName.get(stored.name)?.revision === revision) return;
		let validators: EntryValidators;
		try {
			validators = await this.#compile(stored, "stored");
		} catch (error) {
			this.#options.onFault(`compile the validators of store ${stored.name}`, error);
			validators = { check: () => cannotJudge(stored.name) };
		}
		this.#set(stored.name, this.show(stored, revision, validators));
	}

	#follow(name: string): void {
		const refresh = async () => {
			const entry = this.#options.persistent.kv.get(storeKeys.definition(name));
			if (entry !== undefined) await this.#take(decodeStore(entry.value), entry.revision);
			else if (this.#byName.get(name)?.persistent === true) this.#set(name, undefined);
		};
		this.#serially(refresh).catch((error) => this.#options.onFault("follow a store", error));
	}

	#followAll(): void {
		const names = new Set([...this.#byName.values()].filter((store) => store.persistent).map(({ name }) => name));
		for (const { key } of definitionsIn(this.#options.persistent.kv)) {
			names.add(key.slice(storePrefixes.definitions.length));
		}
		for (const name of names) this.#follow(name);
	}

	#set(name: string, after: OpenStore | undefined): void {
		const before = this.#byName.get(name);
		if (before !== undefined) {
			this.#byId.delete(before.id);
			this.#count(before.owner, -1);
		}
		if (after === undefined) this.#byName.delete(name);
		else {
			this.#byName.set(name, after);
			this.#byId.set(after.id, after);
			this.#count(after.owner, 1);
		}
		if (before === undefined || after === undefined) this.#names = undefined;
		for (const listener of [...this.#listeners]) listener(name, before, after);
	}

	#count(owner: string, by: number): void {
		const count = (this.#perOwner.get(owner) ?? 0) + by;
		if (count === 0) this.#perOwner.delete(owner);
		else this.#perOwner.set(owner, count);
	}

	#changed(before: OpenStore, change: Partial<Pick<Store, "config" | "owner">>): Store {
		const { usage: _, ...shown } = before.show();
		return create(StoreSchema, {
			...shown,
			...change,
			revision: 0n,
			updateTime: timestampFromMs(this.#options.clock.now()),
		});
	}

	#require(name: string): OpenStore {
		const store = this.#byName.get(name);
		if (store === undefined) throw storeNotFound(name);
		return store;
	}

	#requireRoom(owner: string): void {
		if ((this.#perOwner.get(owner) ?? 0) >= STORE_LIMITS.storesPerOwner) throw tooManyStores(owner);
	}
}

function* definitionsIn(kv: KvStore): Generator<KvEntry, void, undefined> {
	const end = prefixEnd(storePrefixes.definitions);
	for (let start: string = storePrefixes.definitions; ; ) {
		const page = kv.range({ start, end, limit: KV_LIMITS.pageEntries });
		yield* page.entries;
		if (!page.more) return;
		start = `${page.entries.at(-1)!.key}\0`;
	}
}

function indexAfter(names: readonly string[], after: string): number {
	let low = 0;
	let high = names.length;
	while (low < high) {
		const middle = (low + high) >>> 1;
		if (compareKeys(names[middle]!, after) <= 0) low = middle + 1;
		else high = middle;
	}
	return low;
}

function changedElsewhere(): HubError {
	return new HubError("STORAGE_UNAVAILABLE", "another hub changed the store", { retryAfterMs: 1000 });
}

function cannotJudge(name: string): HubError {
	return new HubError("FEATURE_NOT_AVAILABLE", `a validator of store "${name}" is not there on this hub`);
}
