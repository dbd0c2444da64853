import type { KvStore } from "../state/kv-store.ts";
import { decodeEntry } from "./entry-record.ts";
import type { StoredEntry } from "./stored-entry.ts";

/** In place of an entry that is being written: the keyspace alone knows whether it is the old or the new one. */
const BEING_WRITTEN = Symbol("being written");

/** Bytes of entries that are held, about. */
const DEFAULT_BYTES = 64 * 1024 * 1024;

/**
 * Entries as reads and writes see them, by their keys in the keyspace; those used lately are held, because finding, copying and
 * decoding one costs several times what handing it out does.
 *
 * There are two generations: when the young one is full it becomes the old one, and what is asked for again moves back. While
 * a key is being written it is read from the keyspace, so that one read never sees less than another before it.
 */
export class EntryCache {
	readonly #kv: KvStore;
	readonly #generationBytes: number;
	#young = new Map<string, StoredEntry | typeof BEING_WRITTEN>();
	#old = new Map<string, StoredEntry | typeof BEING_WRITTEN>();
	#youngBytes = 0;

	constructor(kv: KvStore, maxBytes: number = DEFAULT_BYTES) {
		this.#kv = kv;
		this.#generationBytes = maxBytes / 2;
	}

	/** Entries held. */
	get size(): number {
		return this.#young.size + this.#old.size;
	}

	/** The entry, or undefined. */
	get(key: string): StoredEntry | undefined {
		let held = this.#young.get(key);
		if (held === undefined) {
			held = this.#old.get(key);
			if (held !== undefined && held !== BEING_WRITTEN) this.#hold(key, held);
		}
		if (held !== undefined && held !== BEING_WRITTEN) return held;
		const found = this.#kv.get(key);
		if (found === undefined) return undefined;
		const entry = decodeEntry(found);
		if (held === undefined) this.#hold(key, entry);
		return entry;
	}

	/** The key is about to be written. */
	begin(key: string): void {
		this.#dropYoung(key);
		this.#young.set(key, BEING_WRITTEN);
	}

	/** The key was written; undefined: deleted. */
	settle(key: string, entry: StoredEntry | undefined): void {
		if (entry === undefined) this.forget(key);
		else this.#hold(key, entry);
	}

	/** What is held of the key may not be what is there. */
	forget(key: string): void {
		this.#dropYoung(key);
		this.#young.delete(key);
		this.#old.delete(key);
	}

	#dropYoung(key: string): void {
		const held = this.#young.get(key);
		if (held !== undefined && held !== BEING_WRITTEN) this.#youngBytes -= held.weight;
	}

	#hold(key: string, entry: StoredEntry): void {
		this.#dropYoung(key);
		this.#old.delete(key);
		this.#young.set(key, entry);
		this.#youngBytes += entry.weight;
		if (this.#youngBytes <= this.#generationBytes) return;
		this.#old = this.#young;
		this.#young = new Map();
		this.#youngBytes = 0;
	}
}
