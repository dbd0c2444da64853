import type { KvStore } from "../state/kv-store.ts";
import { decodeEntry } from "./entry-record.ts";
import { storeKeys } from "./store-keys.ts";
import type { StoredEntry } from "./stored-entry.ts";

/** What is held of one key. */
interface Held {
	/** Undefined while the key is being written: the keyspace alone knows whether it is the old or the new one. */
	entry: StoredEntry | undefined;
}

/** By store and key. Not by their keys in the keyspace, which would have to be made and hashed for each read. */
type Generation = Map<string, Map<string, Held>>;

/** Bytes of entries that are held, about. */
const DEFAULT_BYTES = 128 * 1024 * 1024;

/**
 * Entries as reads and writes see them; those used lately are held, because finding, copying and decoding one costs several times
 * what handing it out does.
 *
 * There are two generations: when the young one is full it becomes the old one, and what is asked for again moves back. While
 * a key is being written it is read from the keyspace, so that one read never sees less than another before it.
 */
export class EntryCache {
	readonly #kv: KvStore;
	readonly #generationBytes: number;
	#young: Generation = new Map();
	#old: Generation = new Map();
	#youngBytes = 0;

	constructor(kv: KvStore, maxBytes: number = DEFAULT_BYTES) {
		this.#kv = kv;
		this.#generationBytes = maxBytes / 2;
	}

	/** The entry, or undefined. */
	get(storeId: string, key: string): StoredEntry | undefined {
		const held = this.#young.get(storeId)?.get(key) ?? this.#moved(storeId, key);
		if (held?.entry !== undefined) return held.entry;
		const found = this.#kv.get(storeKeys.entry(storeId, key));
		if (found === undefined) return undefined;
		const entry = decodeEntry(found);
		if (held === undefined) this.#put(storeId, key, entry);
		return entry;
	}

	/** The key is about to be written. */
	begin(storeId: string, key: string): void {
		const young = this.#youngOf(storeId);
		const held = young.get(key);
		if (held === undefined) {
			this.#old.get(storeId)?.delete(key);
			young.set(key, { entry: undefined });
			return;
		}
		this.#youngBytes -= weightOf(held);
		held.entry = undefined;
	}

	/** The key was written; undefined: deleted. */
	settle(storeId: string, key: string, entry: StoredEntry | undefined): void {
		if (entry === undefined) this.forget(storeId, key);
		else this.#put(storeId, key, entry);
	}

	/** What is held of the key may not be what is there. */
	forget(storeId: string, key: string): void {
		const young = this.#young.get(storeId);
		const held = young?.get(key);
		if (held === undefined) {
			this.#old.get(storeId)?.delete(key);
			return;
		}
		this.#youngBytes -= weightOf(held);
		young!.delete(key);
	}

	/** A store is deleted. */
	forgetStore(storeId: string): void {
		const young = this.#young.get(storeId);
		if (young !== undefined) for (const held of young.values()) this.#youngBytes -= weightOf(held);
		this.#young.delete(storeId);
		this.#old.delete(storeId);
	}

	/** Brings what the old generation holds back into the young one. */
	#moved(storeId: string, key: string): Held | undefined {
		const old = this.#old.get(storeId);
		const held = old?.get(key);
		if (held === undefined) return undefined;
		old!.delete(key);
		this.#youngOf(storeId).set(key, held);
		this.#grow(weightOf(held));
		return held;
	}

	#put(storeId: string, key: string, entry: StoredEntry): void {
		const young = this.#youngOf(storeId);
		const held = young.get(key);
		if (held === undefined) {
			this.#old.get(storeId)?.delete(key);
			young.set(key, { entry });
			this.#grow(entry.weight);
			return;
		}
		const before = weightOf(held);
		held.entry = entry;
		this.#grow(entry.weight - before);
	}

	#grow(bytes: number): void {
		this.#youngBytes += bytes;
		if (this.#youngBytes <= this.#generationBytes) return;
		this.#old = this.#young;
		this.#young = new Map();
		this.#youngBytes = 0;
	}

	#youngOf(storeId: string): Map<string, Held> {
		let young = this.#young.get(storeId);
		if (young === undefined) {
			young = new Map();
			this.#young.set(storeId, young);
		}
		return young;
	}
}

function weightOf({ entry }: Held): number {
	return entry === undefined ? 0 : entry.weight;
}
