import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { EntryEndNoteSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import { PayloadSchema } from "#gen/qirvo/hub/v1/payload_pb.js";
import {
	type EntryChange,
	StoreServiceWatchRequestSchema,
	type StoreServiceWatchResponse,
	StoreServiceWatchResponseSchema,
} from "#gen/qirvo/hub/v1/store_watch_pb.js";
import { StoreSchema } from "#gen/qirvo/hub/v1/stores_pb.js";
import { HubError } from "../../src/hub-error.ts";
import type { Encoded } from "../../src/rpc/call.ts";
import { ChangeEncoder } from "../../src/rpc/change-encoder.ts";
import { OpenStoreWatches } from "../../src/rpc/open-store-watches.ts";
import type { PulledStream } from "../../src/rpc/pulled-stream.ts";
import { openStoreWatch } from "../../src/rpc/store-watch-stream.ts";
import type { AuditEntry } from "../../src/security/audit-entry.ts";
import type { Caller } from "../../src/security/caller.ts";
import { noSuchStore, revoked } from "../../src/security/guard-rules.ts";
import type { KvStore, KvWrite } from "../../src/state/kv-store.ts";
import { ByteSlabs } from "../../src/stores/byte-slabs.ts";
import { encodeEntry } from "../../src/stores/entry-record.ts";
import { OpenStore } from "../../src/stores/open-store.ts";
import type { StoreListener } from "../../src/stores/store-change.ts";
import { fillStoreConfig } from "../../src/stores/store-config.ts";
import { storeKeys } from "../../src/stores/store-keys.ts";
import type { StoredEntry } from "../../src/stores/stored-entry.ts";
import { FakeCall, plugin } from "./event-hub.ts";
import { type FakeClock, SequentialIds } from "./fake-clock.ts";

type Frame = StoreServiceWatchResponse["frame"];
type SetFrame = Exclude<Frame, { readonly case: undefined }>;
type FrameValues = { [F in SetFrame as F["case"]]: F["value"] };
type Watches = NonNullable<MessageInitShape<typeof StoreServiceWatchRequestSchema>["watches"]>;

/** Watches of stores without a transport, whose rights and stores a test changes as it likes. */
export class StoreWatchRig {
	readonly kv: KvStore;
	readonly clock: FakeClock;
	readonly audited: AuditEntry[] = [];
	/** Plugins that nothing is admitted of. */
	readonly refused = new Set<string>();
	readonly watches: OpenStoreWatches;
	readonly changes = new ChangeEncoder();
	readonly #stores = new Map<string, OpenStore>();
	readonly #listeners = new Set<StoreListener>();
	readonly #pluginListeners = new Set<(pluginId: string) => void>();
	readonly #streams = new Set<() => void>();
	readonly #ids = new SequentialIds();
	#commits = 0;

	constructor({ state, clock }: { readonly state: { readonly kv: KvStore }; readonly clock: FakeClock }) {
		this.kv = state.kv;
		this.clock = clock;
		this.watches = new OpenStoreWatches({
			stores: {
				find: (name) => this.#stores.get(name),
				onChange: (listener) => subscribed(this.#listeners, listener),
			},
			onPluginChange: (listener) => subscribed(this.#pluginListeners, listener),
			admission: {
				recheck: (caller, name) => {
					if (this.#refuses(caller)) throw revoked(refusal(name));
				},
			},
			audit: { record: (entry) => this.audited.push(entry) },
		});
	}

	/** Makes the store, or another one of its name; `undefined` deletes it. */
	setStore(name: string, id: string | undefined): void {
		const before = this.#stores.get(name);
		const stored = create(StoreSchema, { name, owner: "owner", epoch: id ?? "", config: fillStoreConfig(undefined) });
		const after = id === undefined ? undefined : new OpenStore({ stored, revision: 1 });
		if (after === undefined) this.#stores.delete(name);
		else this.#stores.set(name, after);
		for (const listener of this.#listeners) listener(name, before, after);
	}

	/** As when the grants of a plugin change. */
	recheckStreams(): void {
		for (const recheck of [...this.#streams]) recheck();
	}

	/** As when the registration of a plugin changes. */
	changePlugin(pluginId: string): void {
		for (const listener of this.#pluginListeners) listener(pluginId);
	}

	open(watches: Watches, caller: Caller = plugin("reader"), call: FakeCall = new FakeCall(caller)): WatchReader {
		const request = create(StoreServiceWatchRequestSchema, { watches });
		const responses = openStoreWatch(
			{
				admission: { admit: (_, name) => this.#admit(caller, name) },
				keyspaceOf: () => this.kv,
				watches: this.watches,
				changes: this.changes,
				streams: {
					open: (_, stream) => {
						stream.recheck();
						return subscribed(this.#streams, () => stream.recheck());
					},
				},
				clock: this.clock,
				ids: this.#ids,
			},
			request,
			call,
		);
		return new WatchReader(responses, call);
	}

	/** Writes values into a store, or deletes where there is none, as one commit. */
	async write(
		storeId: string,
		values: Readonly<Record<string, string | undefined>>,
		transactionId = "",
	): Promise<void> {
		const writes = Object.entries(values).map(([key, text]): KvWrite => {
			const recordKey = storeKeys.entry(storeId, key);
			if (text !== undefined) return { key: recordKey, value: this.#record(key, text, transactionId) };
			const note = { actor: "deleter", cause: 2, transactionId, timeMs: BigInt(this.clock.now()) };
			return { key: recordKey, delete: true, note: toBinary(EntryEndNoteSchema, create(EntryEndNoteSchema, note)) };
		});
		await this.kv.commit({ id: `commit-${++this.#commits}`, writes });
	}

	#record(key: string, text: string, transactionId: string): StoredEntry {
		const now = this.clock.now();
		const payload = create(PayloadSchema, { body: { case: "json", value: text } });
		const facts = { writer: "writer", instanceId: "", expireTime: 0, transactionId, older: [] };
		const value = toBinary(PayloadSchema, payload);
		return encodeEntry({ key, value, created: now, updateTime: now, facts }, new ByteSlabs());
	}

	#admit(caller: Caller, name: string): OpenStore {
		if (this.#refuses(caller)) throw refusal(name);
		const store = this.#stores.get(name);
		if (store === undefined) throw noSuchStore(name);
		return store;
	}

	#refuses(caller: Caller): boolean {
		return caller.kind === "plugin" && this.refused.has(caller.id);
	}
}

/** Reads the frames of one call, which are made only as they are asked for. */
export class WatchReader {
	readonly call: FakeCall;
	readonly #responses: PulledStream<Encoded>;
	#pending: Promise<IteratorResult<Encoded>> | undefined;

	constructor(responses: PulledStream<Encoded>, call: FakeCall) {
		this.#responses = responses;
		this.call = call;
	}

	/** The next frame; undefined at the end of the stream. */
	async next(): Promise<Frame | undefined> {
		const { done, value } = await (this.#pending ?? this.#responses.next());
		this.#pending = undefined;
		if (done) return undefined;
		return fromBinary(StoreServiceWatchResponseSchema, Buffer.concat(value.parts)).frame;
	}

	/** The next frame, which must be of this kind. */
	async expect<C extends keyof FrameValues>(kind: C): Promise<FrameValues[C]> {
		const frame = await this.next();
		if (frame?.case !== kind) throw new Error(`expected ${kind}, got ${JSON.stringify(frame, bigints)}`);
		return frame.value as FrameValues[C];
	}

	/** Whether there is a frame now. It is kept. */
	async hasNext(): Promise<boolean> {
		this.#pending ??= this.#responses.next();
		const none = Symbol("none");
		const first = await Promise.race([this.#pending, new Promise((resolve) => setImmediate(resolve, none))]);
		return first !== none;
	}

	async close(): Promise<void> {
		await this.#responses.return();
	}
}

/** What a change says, in short. */
export function saying({ key, entry, previous, coalesced }: EntryChange): string {
	const text = (each: typeof entry) => (each?.value?.body.case === "json" ? each.value.body.value : "-");
	return `${key}: ${text(previous)} > ${text(entry)}${coalesced > 0 ? ` (${coalesced})` : ""}`;
}

function refusal(store: string): HubError {
	return new HubError("INSUFFICIENT_PERMISSIONS", `no grant admits reading store "${store}"`);
}

function subscribed<T>(set: Set<T>, item: T): Disposable {
	set.add(item);
	return { [Symbol.dispose]: () => void set.delete(item) };
}

const bigints = (_: string, value: unknown) => (typeof value === "bigint" ? String(value) : value);
