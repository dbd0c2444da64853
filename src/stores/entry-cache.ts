import type { KvStore } from "../state/kv-store.ts";
import { ByteSlabs } from "./byte-slabs.ts";
import { decodeEntry } from "./entry-record.ts";
import { EntrySlot } from "./entry-slot.ts";
import { storeKeys } from "./store-keys.ts";
import type { StoredEntry } from "./stored-entry.ts";

/** By store and key. Not by their keys in the keyspace, which would have to be made and hashed for each read. */
type Generation = Map<string, Map<string, EntrySlot>>;

/** Bytes of entries that are held, about. */
const DEFAULT_BYTES = 128 * 1024 * 1024;

/** What a slot and its entry take beside their bytes and the key, about. */
const SLOT_BYTES = 400;

/**
 * Entries as reads and writes see them; those used lately are held, because finding, copying and decoding one costs several times
 * what handing it out does.
 *
 * There are two generations: when as much was put into the young one as it may hold, it becomes the old one, and what is asked
 * for again moves back, bytes and all, so that a slab is not held for one entry. While a key is being written it is read from
 * the keyspace, so that one read never sees less than another before it.
 */
export class EntryCache {
	/** Where the bytes of entries go that are held. What is taken of it counts. */
	readonly slabs = new ByteSlabs();
	readonly #kv: KvStore;
	readonly #generationBytes: number;
	#young: Generation = new Map();
	#old: Generation = new Map();
	/** Of slots made or moved in this generation, beside their bytes. */
	#slotBytes = 0;
	/** What was taken of the slabs before this generation. */
	#takenBefore = 0;

	constructor(kv: KvStore, maxBytes: number = DEFAULT_BYTES) {
		this.#kv = kv;
		this.#generationBytes = maxBytes / 2;
	}

	/** The entry as it is stored, or undefined. */
	get(storeId: string, key: string): StoredEntry | undefined {
		const slot = this.#find(storeId, key);
		if (slot !== undefined) return this.read(slot);
		const found = this.#kv.get(storeKeys.entry(storeId, key));
		if (found === undefined) return undefined;
		const entry = decodeEntry(found, this.slabs);
		this.#make(storeId, key).settle(entry);
		return entry;
	}

	/** The slot of a key that is to be written. It is held for as long as somebody writes it or waits to. */
	slot(storeId: string, key: string): EntrySlot {
		// Writes take new bytes each time, also where they replace what is held.
		if (this.#isFull) this.#growOld();
		return this.#find(storeId, key) ?? this.#make(storeId, key);
	}

	/** The entry of a slot as it is stored, or undefined. */
	read(slot: EntrySlot): StoredEntry | undefined {
		if (slot.isKnown) return slot.entry;
		const found = this.#kv.get(slot.entryKey);
		const entry = found && decodeEntry(found, this.slabs);
		if (!slot.isWriting) slot.settle(entry);
		return entry;
	}

	/** What is held of the key may not be what is there. */
	forget(storeId: string, key: string): void {
		this.#find(storeId, key)?.forget();
	}

	/** A store is deleted. */
	forgetStore(storeId: string): void {
		this.#young.delete(storeId);
		this.#old.delete(storeId);
	}

	/** Brings what the old generation holds back into the young one. */
	#find(storeId: string, key: string): EntrySlot | undefined {
		const young = this.#young.get(storeId)?.get(key);
		if (young !== undefined) return young;
		const old = this.#old.get(storeId);
		const slot = old?.get(key);
		if (slot === undefined) return undefined;
		old!.delete(key);
		if (slot.entry !== undefined) slot.entry = slot.entry.movedTo(this.slabs);
		if (this.#isFull) this.#growOld();
		this.#put(slot);
		return slot;
	}

	#make(storeId: string, key: string): EntrySlot {
		const slot = new EntrySlot(storeId, key);
		if (this.#isFull) this.#growOld();
		this.#put(slot);
		return slot;
	}

	get #isFull(): boolean {
		return this.#slotBytes + this.slabs.taken - this.#takenBefore > this.#generationBytes;
	}

	#put(slot: EntrySlot): void {
		let young = this.#young.get(slot.storeId);
		if (young === undefined) {
			young = new Map();
			this.#young.set(slot.storeId, young);
		}
		young.set(slot.key, slot);
		this.#slotBytes += SLOT_BYTES + slot.key.length * 2;
	}

	#growOld(): void {
		const oldest = this.#old;
		this.#old = this.#young;
		this.#young = new Map();
		this.#slotBytes = 0;
		this.#takenBefore = this.slabs.taken;
		for (const slots of oldest.values()) {
			// Another slot of the key would have a line of its own.
			for (const slot of slots.values()) if (slot.isBusy) this.#put(slot);
		}
	}
}
