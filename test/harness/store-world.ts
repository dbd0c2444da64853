import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type Entry, EntrySchema, type EntryVersion, EntryVersionSchema } from "#gen/qirvo/hub/v1/entries_pb.js";
import { PayloadSchema } from "#gen/qirvo/hub/v1/payload_pb.js";
import { type StoreConfig, StoreConfigSchema } from "#gen/qirvo/hub/v1/stores_pb.js";
import { FirstAnswers, type RepeatableRequest } from "../../src/idempotency/first-answers.ts";
import type { ExpectedRevision } from "../../src/state/expected-revision.ts";
import type { KvStore } from "../../src/state/kv-store.ts";
import type { StateBackend } from "../../src/state/state-backend.ts";
import type { EntryQuery } from "../../src/stores/entry-query.ts";
import { type CompileValidators, NO_VALIDATORS } from "../../src/stores/entry-validators.ts";
import type { EntryCheck, EntryWrite, WriteUnit, Written } from "../../src/stores/entry-write.ts";
import type { OpenStore } from "../../src/stores/open-store.ts";
import type { ChangedStore, StoreChange } from "../../src/stores/store-change.ts";
import { parseExpiry } from "../../src/stores/store-keys.ts";
import { Stores } from "../../src/stores/stores.ts";
import type { FakeClock } from "./fake-clock.ts";
import { SequentialIds } from "./fake-clock.ts";
import { type BackendUnderTest, backends, type OpenedState } from "./state-backends.ts";

/** Worlds so far: those that share a store must not share the ids of commits. */
let worlds = 0;

/** Below the time after which the state takes a commit that is not done for one that never will be. */
const SLICE_MS = 20_000;

type Config = Parameters<typeof create<typeof StoreConfigSchema>>[1];

export const ANY: ExpectedRevision = { kind: "any" };
export const ABSENT: ExpectedRevision = { kind: "absent" };
export const EXISTS: ExpectedRevision = { kind: "exists" };
export const at = (revision: number): ExpectedRevision => ({ kind: "revision", revision: BigInt(revision) });

/** How a change is made where nothing else matters. */
export function change(more: Partial<StoreChange> = {}): StoreChange {
	return { expected: ANY, validateOnly: false, also: [], ...more };
}

/** A JSON value as a `Payload` in wire form. */
export function json(value: unknown): Uint8Array {
	return toBinary(PayloadSchema, create(PayloadSchema, { body: { case: "json", value: JSON.stringify(value) } }));
}

/** The text of an entry's JSON. */
export function textOf(entry: Entry | undefined): string | undefined {
	return entry?.value?.body.case === "json" ? entry.value.body.value : undefined;
}

/** Instances whose ends a test decides. */
export class HeldLeases {
	readonly live = new Set<string>();
	readonly #listeners = new Set<(pluginId: string, instanceId: string) => void>();

	isLive(pluginId: string, instanceId: string): boolean {
		return this.live.has(`${pluginId}/${instanceId}`);
	}

	onEnd(listener: (pluginId: string, instanceId: string) => void): Disposable {
		this.#listeners.add(listener);
		return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
	}

	end(pluginId: string, instanceId: string): void {
		this.live.delete(`${pluginId}/${instanceId}`);
		for (const listener of this.#listeners) listener(pluginId, instanceId);
	}
}

interface WorldOptions {
	readonly compile?: CompileValidators;
	/** What stands between the stores and their keyspaces. */
	readonly wrap?: (kv: KvStore) => KvStore;
	readonly cacheBytes?: number;
}

/** Stores on a backend, a held clock and instances that a test ends. */
export class StoreWorld implements AsyncDisposable {
	readonly leases = new HeldLeases();
	readonly faults: unknown[] = [];
	readonly #opened: OpenedState;
	readonly #options: WorldOptions;
	#state: StateBackend;
	#stores!: Stores;
	#answers: FirstAnswers[] = [];

	private constructor(opened: OpenedState, options: WorldOptions) {
		this.#opened = opened;
		this.#options = options;
		this.#state = opened.state;
	}

	static async open(backend: BackendUnderTest = backends[0]!, options: WorldOptions = {}): Promise<StoreWorld> {
		const world = new StoreWorld(await backend.open(), options);
		await world.#start();
		return world;
	}

	get clock(): FakeClock {
		return this.#opened.clock;
	}

	get stores(): Stores {
		return this.#stores;
	}

	get state(): StateBackend {
		return this.#state;
	}

	/** Ends the stores and begins them anew on what is stored. */
	async restart(): Promise<void> {
		await this.#stop();
		this.#state = (await this.#opened.reopen?.()) ?? this.#state;
		await this.#start();
	}

	create(name: string, config: Config = {}, owner = "owner"): Promise<OpenStore> {
		return this.tryCreate(name, config, owner).then(({ store }) => store);
	}

	tryCreate(name: string, config: Config = {}, owner = "owner", how = change()): Promise<ChangedStore> {
		return this.stores.definitions.create(name, owner, create(StoreConfigSchema, config) as StoreConfig, how);
	}

	update(name: string, config: Config, how = change()): Promise<OpenStore> {
		return this.stores.definitions
			.update(name, create(StoreConfigSchema, config) as StoreConfig, how)
			.then(({ store }) => store);
	}

	/** Whether a restart ends what is not persistent. */
	get forgets(): boolean {
		return this.#opened.reopen !== undefined;
	}

	/** Moves the clock on, until everything has ended that is over by then. */
	async advance(ms: number): Promise<void> {
		await this.stores.idle();
		for (let left = ms; left > 0; left -= SLICE_MS) {
			await this.clock.advance(Math.min(left, SLICE_MS));
			await this.stores.idle();
		}
		for (let round = 0; round < 100; round++) {
			await this.stores.idle();
			const { entries } = this.state.kv.range({ start: "store/expiry/", end: "store/expiry0", limit: 1 });
			const volatile = this.state.volatileKv.range({ start: "store/expiry/", end: "store/expiry0", limit: 1 });
			const first = [...entries, ...volatile.entries].map(({ key }) => parseExpiry(key).time);
			if (first.every((time) => time > this.clock.now())) return;
			await this.clock.advance(1);
		}
		throw new Error("something does not end");
	}

	/** Writes a unit; resolves or rejects as it is settled. */
	submit(unit: Partial<WriteUnit>): Promise<Written> {
		const whole: WriteUnit = { writer: "owner", checks: [], writes: [], transactionId: "", ...unit };
		return new Promise((resolve, reject) => {
			this.stores.submit(whole, (written, error) => (written === undefined ? reject(error) : resolve(written)));
		});
	}

	/** One write. */
	async write(write: EntryWrite, writer = "owner", request?: RepeatableRequest) {
		const written = await this.submit({ writes: [write], writer, request });
		return { ...written.results[0]!, duplicate: written.duplicate };
	}

	set(store: OpenStore, key: string, value: unknown, more: Partial<Omit<EntryWrite & { kind: "set" }, "value">> = {}) {
		return this.write(set(store, key, value, more));
	}

	delete(store: OpenStore, key: string) {
		return this.write({ kind: "delete", store, key, expected: ANY, returnPrevious: false });
	}

	get(store: OpenStore, key: string): Entry | undefined {
		const wire = this.stores.get(store, key);
		return wire && fromBinary(EntrySchema, wire);
	}

	list(store: OpenStore, query: Partial<EntryQuery> = {}) {
		const whole = {
			prefix: "",
			glob: undefined,
			after: undefined,
			limit: 100,
			reverse: false,
			keysOnly: false,
			...query,
		};
		const page = this.stores.list(store, whole);
		return { ...page, entries: page.entries.map((wire) => fromBinary(EntrySchema, wire)) };
	}

	/** All versions, the newest first. */
	history(store: OpenStore, key: string): readonly EntryVersion[] {
		const { versions } = this.stores.history(store, key, { limit: 1000, before: undefined });
		return versions.map((wire) => fromBinary(EntryVersionSchema, wire));
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.#stop();
		await this.#opened[Symbol.asyncDispose]();
	}

	async #start(): Promise<void> {
		const ids = new SequentialIds(`world-${++worlds}-`);
		const { clock } = this;
		const wrap = this.#options.wrap ?? ((kv: KvStore) => kv);
		const state = { kv: wrap(this.#state.kv), volatileKv: wrap(this.#state.volatileKv) };
		const answers = new FirstAnswers({ kv: state.kv, clock, ids });
		const volatileAnswers = new FirstAnswers({ kv: state.volatileKv, clock, ids });
		this.#answers = [answers, volatileAnswers];
		this.#stores = new Stores({
			state,
			answers,
			volatileAnswers,
			clock,
			ids,
			leases: this.leases,
			compile: this.#options.compile ?? (() => NO_VALIDATORS),
			onFault: (_what, error) => this.faults.push(error),
			cacheBytes: this.#options.cacheBytes,
		});
		await this.#stores.start();
	}

	async #stop(): Promise<void> {
		await this.#stores[Symbol.asyncDispose]();
		for (const answers of this.#answers) await answers[Symbol.asyncDispose]();
	}
}

export function set(
	store: OpenStore,
	key: string,
	value: unknown,
	more: Partial<Omit<EntryWrite & { kind: "set" }, "value">> = {},
): EntryWrite {
	return {
		kind: "set",
		store,
		key,
		value: json(value),
		expected: ANY,
		ttlMs: undefined,
		instanceId: "",
		returnPrevious: false,
		...more,
	};
}

export function check(store: OpenStore, key: string, expected: ExpectedRevision): EntryCheck {
	return { store, key, expected };
}

export function increment(store: OpenStore, key: string, delta: number, ttlMs?: number): EntryWrite {
	return { kind: "increment", store, key, delta: BigInt(delta), ttlMs };
}

export function append(store: OpenStore, key: string, element: unknown, ttlMs?: number): EntryWrite {
	return { kind: "append", store, key, element: JSON.stringify(element), ttlMs };
}
