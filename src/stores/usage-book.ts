import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { UsageRecordSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import type { KvStore } from "../state/kv-store.ts";
import type { StoreHoldings } from "./open-store.ts";
import { storeKeys } from "./store-keys.ts";

interface RowHoldings extends StoreHoldings {
	readonly versions: number;
	/** Of the record; 0: there is none. */
	readonly revision: number;
}

/** What a store holds, or what a plugin has written of it: as it is stored, and as it will be with what is decided since. */
export class UsageRow {
	readonly storeId: string;
	/** Empty: the store. */
	readonly pluginId: string;
	/** Of the record; 0: there is none. */
	revision: number;
	keys: number;
	bytes: number;
	/** Old versions; of the store alone. */
	versions: number;
	nextKeys: number;
	nextBytes: number;
	nextVersions: number;
	/** The number of the round that has put it on its list last. */
	listedIn = 0;

	constructor(storeId: string, pluginId: string, holdings: RowHoldings) {
		this.storeId = storeId;
		this.pluginId = pluginId;
		this.revision = holdings.revision;
		this.keys = holdings.keys;
		this.bytes = holdings.bytes;
		this.versions = holdings.versions;
		this.nextKeys = holdings.keys;
		this.nextBytes = holdings.bytes;
		this.nextVersions = holdings.versions;
	}

	get key(): string {
		return storeKeys.usage(this.storeId, this.pluginId);
	}

	get isChanged(): boolean {
		return this.nextKeys !== this.keys || this.nextBytes !== this.bytes || this.nextVersions !== this.versions;
	}

	/** Whether nothing is left to count. */
	get isEmpty(): boolean {
		return this.nextKeys === 0 && this.nextBytes === 0 && this.nextVersions === 0;
	}

	/** A `UsageRecord` of what will be. */
	encode(): Uint8Array {
		const { nextKeys, nextBytes, nextVersions } = this;
		const record = { keys: BigInt(nextKeys), bytes: BigInt(nextBytes), versions: BigInt(nextVersions) };
		return toBinary(UsageRecordSchema, create(UsageRecordSchema, record));
	}

	/** It is stored with this in it. What will be may be more already. */
	settle({ keys, bytes, versions, revision }: RowHoldings): void {
		this.revision = revision;
		this.keys = keys;
		this.bytes = bytes;
		this.versions = versions;
	}

	/** What would have been is not. */
	reset(): void {
		this.nextKeys = this.keys;
		this.nextBytes = this.bytes;
		this.nextVersions = this.versions;
	}
}

interface StoreUsage {
	readonly total: UsageRow;
	readonly plugins: Map<string, UsageRow>;
}

/** Rows that are held before they are let go and read again. */
const MAX_ROWS = 50_000;

/** What the stores of one keyspace hold, by store and by plugin. Written by one `EntryWriter`, with the entries. */
export class UsageBook {
	readonly #kv: KvStore;
	readonly #stores = new Map<string, StoreUsage>();
	#rows = 0;

	constructor(kv: KvStore) {
		this.#kv = kv;
	}

	/** What is stored. */
	holdings(storeId: string): StoreHoldings {
		const known = this.#stores.get(storeId)?.total;
		const { keys, bytes } = known ?? this.#load(storeId, "");
		return { keys, bytes };
	}

	/** Of the store where `pluginId` is empty. Read from the keyspace where it is not held. */
	row(storeId: string, pluginId: string): UsageRow {
		let store = this.#stores.get(storeId);
		if (store === undefined) {
			store = { total: this.#load(storeId, ""), plugins: new Map() };
			this.#stores.set(storeId, store);
			this.#rows++;
		}
		if (pluginId === "") return store.total;
		let row = store.plugins.get(pluginId);
		if (row === undefined) {
			row = this.#load(storeId, pluginId);
			store.plugins.set(pluginId, row);
			this.#rows++;
		}
		return row;
	}

	/** Whether so many rows are held that they should be let go. */
	get isFull(): boolean {
		return this.#rows > MAX_ROWS;
	}

	/** All rows are read again when they are asked for. Only while no round has any. */
	forgetAll(): void {
		this.#stores.clear();
		this.#rows = 0;
	}

	/** A store is deleted. */
	forget(storeId: string): void {
		const store = this.#stores.get(storeId);
		if (store === undefined) return;
		this.#rows -= store.plugins.size + 1;
		this.#stores.delete(storeId);
	}

	#load(storeId: string, pluginId: string): UsageRow {
		const entry = this.#kv.get(storeKeys.usage(storeId, pluginId));
		const record = entry && fromBinary(UsageRecordSchema, entry.value);
		return new UsageRow(storeId, pluginId, {
			revision: entry?.revision ?? 0,
			keys: Number(record?.keys ?? 0n),
			bytes: Number(record?.bytes ?? 0n),
			versions: Number(record?.versions ?? 0n),
		});
	}
}
