import { create, toBinary } from "@bufbuild/protobuf";
import { UsageRecordSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import type { StoreConfig } from "#gen/qirvo/hub/v1/stores_pb.js";
import type { IdSource } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import { repeatUnknown, storageRefusal } from "../idempotency/storage-refusal.ts";
import type { KvBytes, KvWrite } from "../state/kv-store.ts";
import { ByteSlabs } from "./byte-slabs.ts";
import type { EntryKeyspace } from "./entry-keyspace.ts";
import { encodeEntry } from "./entry-record.ts";
import type { InstanceLeases } from "./instance-leases.ts";
import { type ChangedStore, type StoreChange, storeExists } from "./store-change.ts";
import type { StoreDefinitions } from "./store-definitions.ts";
import { storeKeys } from "./store-keys.ts";

/** A store that is to be made of what it once held. */
export interface RestoredStore {
	readonly name: string;
	readonly owner: string;
	/** Within its bounds. */
	readonly config: StoreConfig;
	/** Checks everything and writes nothing. */
	readonly verifyOnly: boolean;
}

/** One of its entries. Times are milliseconds since the Unix epoch. */
export interface RestoredEntry {
	readonly key: string;
	/** A `Payload` in wire form, within its bounds. */
	readonly value: Uint8Array;
	readonly createTime: number;
	readonly updateTime: number;
	/** 0: never. */
	readonly expireTime: number;
	readonly writer: string;
	/** Empty: it lives by none. */
	readonly instanceId: string;
}

export interface StoreRestoreOptions {
	readonly definitions: StoreDefinitions;
	/** Where the entries of such a store are. */
	readonly keyspaceOf: (store: { readonly persistent: boolean }) => Pick<EntryKeyspace, "kv" | "ends" | "removal">;
	readonly leases: InstanceLeases;
	readonly ids: IdSource;
}

/** Writes and bytes that are gathered for one commit. An entry is at most three writes. */
const BATCH_WRITES = 500;
const BATCH_BYTES = 1024 * 1024;

/**
 * Makes a store of its entries. They are written under the id of a store that is not there, marked as what is left of a deleted one: so
 * nobody sees them, and a hub that is ended meanwhile removes them at its next start. The commit that makes the store takes
 * the mark away.
 */
export class StoreRestore {
	readonly #options: StoreRestoreOptions;
	readonly #store: RestoredStore;
	readonly #keyspace: Pick<EntryKeyspace, "kv" | "ends" | "removal">;
	readonly #id: string;
	readonly #slabs = new ByteSlabs();
	readonly #usage = new Map<string, { keys: number; bytes: number }>();
	#writes: KvWrite[];
	#bytes = 0;
	#touched = false;

	/** Throws STORE_EXISTS. */
	constructor(options: StoreRestoreOptions, store: RestoredStore) {
		if (options.definitions.find(store.name) !== undefined) throw storeExists(store.name);
		this.#options = options;
		this.#store = store;
		this.#keyspace = options.keyspaceOf({ persistent: store.config.persistent ?? true });
		this.#id = options.ids.next();
		this.#writes = [{ key: storeKeys.doomed(this.#id), value: new Uint8Array() }];
		this.#usage.set("", { keys: 0, bytes: 0 });
	}

	/**
	 * Each key once. An entry that lived by an instance which is no longer there is left out: its end has come. Undefined:
	 * go on at once. Rejects with STORAGE_FULL and STORAGE_UNAVAILABLE.
	 */
	add(entry: RestoredEntry): Promise<void> | undefined {
		if (this.#store.verifyOnly) return undefined;
		const { key, expireTime, writer, instanceId } = entry;
		if (instanceId !== "" && !this.#options.leases.isLive(writer, instanceId)) return undefined;
		const { value, createTime: created, updateTime } = entry;
		const facts = { writer, instanceId, expireTime, transactionId: "", older: [] };
		const record = encodeEntry({ key, value, created, updateTime, facts }, this.#slabs);
		// Nobody can watch it yet.
		this.#write({ key: storeKeys.entry(this.#id, key), value: record, silent: true });
		if (expireTime !== 0) this.#write({ key: storeKeys.expiry(expireTime, this.#id, key), value: new Uint8Array() });
		if (instanceId !== "") {
			this.#write({ key: storeKeys.lease(writer, instanceId, this.#id, key), value: new Uint8Array() });
		}
		this.#count("", record.bytes);
		this.#count(writer, record.bytes);
		return this.#isFull ? this.#flush() : undefined;
	}

	/** Makes the store. Rejects as `StoreDefinitions.create` does. */
	async finish(change: StoreChange): Promise<ChangedStore> {
		const { name, owner, config, verifyOnly } = this.#store;
		const { definitions } = this.#options;
		if (verifyOnly) return await definitions.create(name, owner, config, { ...change, validateOnly: true });
		for (const [pluginId, { keys, bytes }] of this.#usage) {
			const usage = create(UsageRecordSchema, { keys: BigInt(keys), bytes: BigInt(bytes) });
			this.#write({ key: storeKeys.usage(this.#id, pluginId), value: toBinary(UsageRecordSchema, usage) });
			if (this.#isFull) await this.#flush();
		}
		await this.#flush();
		try {
			const changed = await definitions.create(name, owner, config, change, this.#id);
			this.#touched = false;
			this.#keyspace.ends.lookAgain();
			return changed;
		} catch (error) {
			// The store may be there. If it is not, the mark is, and the next start removes what was written.
			if (error instanceof HubError && error.reason === "STORAGE_UNAVAILABLE") this.#touched = false;
			throw error;
		}
	}

	/** Takes away what was written, unless it is a store by now. */
	abandon(): void {
		this.#writes = [];
		if (this.#touched) this.#keyspace.removal.remove(this.#id);
		this.#touched = false;
	}

	get name(): string {
		return this.#store.name;
	}

	get owner(): string {
		return this.#store.owner;
	}

	get #isFull(): boolean {
		return this.#writes.length >= BATCH_WRITES || this.#bytes >= BATCH_BYTES;
	}

	#write(write: KvWrite & { readonly value: Uint8Array | KvBytes }): void {
		this.#writes.push(write);
		this.#bytes += write.key.length + write.value.byteLength;
	}

	async #flush(): Promise<void> {
		const writes = this.#writes;
		if (writes.length === 0) return;
		this.#writes = [];
		this.#bytes = 0;
		this.#touched = true;
		try {
			await repeatUnknown(this.#keyspace.kv, { id: this.#options.ids.next(), writes });
		} catch (error) {
			throw storageRefusal(error);
		}
	}

	#count(pluginId: string, bytes: number): void {
		const usage = this.#usage.get(pluginId);
		if (usage === undefined) this.#usage.set(pluginId, { keys: 1, bytes });
		else {
			usage.keys++;
			usage.bytes += bytes;
		}
	}
}
