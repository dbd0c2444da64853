import { ChangeCause } from "#gen/qirvo/hub/v1/entries_pb.js";
import type { KvStore } from "../state/kv-store.ts";
import type { ByteSlabs } from "./byte-slabs.ts";
import { encodeEntry } from "./entry-record.ts";
import type { EntrySlot } from "./entry-slot.ts";
import type { InstanceLeases } from "./instance-leases.ts";
import type { OpenStore } from "./open-store.ts";
import { storeKeys } from "./store-keys.ts";
import type { EntryFacts, StoredEntry } from "./stored-entry.ts";
import type { UsageBook } from "./usage-book.ts";
import { decodeTombstone, type EntryEnd, encodeEndNote, encodeTombstone, encodeVersion } from "./version-record.ts";
import type { WriteRound } from "./write-round.ts";

/** A key that is written, and what is there. */
export interface WrittenKey {
	readonly store: OpenStore;
	readonly slot: EntrySlot;
	/** What is there now. */
	readonly old: StoredEntry | undefined;
	readonly writer: string;
	readonly transactionId: string;
}

const NONE: readonly number[] = Object.freeze([]);

/**
 * Writes one entry into a round, with all that goes along: the check that it is still what was read, the old version where the
 * store keeps them, the indexes of what ends by itself, and the usage.
 */
export class EntryStage {
	readonly #kv: KvStore;
	readonly #usage: UsageBook;
	readonly #leases: InstanceLeases;
	readonly #slabs: ByteSlabs;
	/** Of the last entry that says no more than who wrote it: most do. */
	#plain: EntryFacts = { writer: "", instanceId: "", expireTime: 0, transactionId: "", older: NONE };

	constructor(parts: {
		readonly kv: KvStore;
		readonly usage: UsageBook;
		readonly leases: InstanceLeases;
		/** Where the bytes of entries go that are written. */
		readonly slabs: ByteSlabs;
	}) {
		this.#kv = parts.kv;
		this.#usage = parts.usage;
		this.#leases = parts.leases;
		this.#slabs = parts.slabs;
	}

	/** Why the entry is over, though it may not be deleted yet; undefined: it is not. */
	endOf({ facts }: StoredEntry, now: number): ChangeCause.EXPIRED | ChangeCause.LEASE_ENDED | undefined {
		if (facts.expireTime !== 0 && facts.expireTime <= now) return ChangeCause.EXPIRED;
		if (facts.instanceId === "" || this.#leases.isLive(facts.writer, facts.instanceId)) return undefined;
		return ChangeCause.LEASE_ENDED;
	}

	/**
	 * Puts a value, a `Payload` in wire form, under a key. `expireTime`: milliseconds since the Unix epoch; 0: never. Gives the
	 * place of the write.
	 */
	put(round: WriteRound, written: WrittenKey, value: Uint8Array, expireTime: number, instanceId: string): number {
		const { store, slot, old, writer } = written;
		const { key } = slot;
		const { now } = round;
		const facts = this.#factsOf(round, written, expireTime, instanceId);
		const entry = encodeEntry({ key, value, created: old ?? now, updateTime: now, facts }, this.#slabs);
		const index = round.put(slot, entry, old);
		const keepsOld = old !== undefined && store.history > 1;
		if (keepsOld) {
			round.write({ key: storeKeys.version(store.id, old.revision), value: encodeVersion(old, undefined) });
		}
		if (expireTime !== 0 && expireTime !== old?.facts.expireTime) {
			round.firstExpiry = Math.min(round.firstExpiry, expireTime);
			round.revive(storeKeys.expiry(expireTime, store.id, key));
		}
		if (instanceId !== "" && (instanceId !== old?.facts.instanceId || writer !== old.facts.writer)) {
			round.revive(storeKeys.lease(writer, instanceId, store.id, key));
		}
		if (old !== undefined) this.#leaveIndexes(round, slot, old.facts, entry.facts);
		this.#count(round, store.id, old, entry, keepsOld ? 1 : 0);
		return index;
	}

	/** Deletes an entry. Gives the place of the write. */
	end(round: WriteRound, store: OpenStore, slot: EntrySlot, old: StoredEntry, end: EntryEnd): number {
		const note = encodeEndNote(end);
		const index = round.end(slot, old, note);
		const keepsOld = store.history > 1;
		const older = this.#olderOf(round, store, slot.key, old);
		if (keepsOld) {
			// Next to the deletion: that is how its revision is told.
			round.write({ key: storeKeys.version(store.id, old.revision), value: encodeVersion(old, note) });
			round.revive(storeKeys.tombstone(store.id, slot.key), encodeTombstone(older));
		}
		this.#leaveIndexes(round, slot, old.facts, undefined);
		this.#count(round, store.id, old, undefined, keepsOld ? 1 : 0);
		return index;
	}

	#factsOf(
		round: WriteRound,
		{ store, slot, old, writer, transactionId }: WrittenKey,
		expireTime: number,
		instanceId: string,
	): EntryFacts {
		const older = this.#olderOf(round, store, slot.key, old);
		if (instanceId !== "" || expireTime !== 0 || transactionId !== "" || older.length > 0) {
			return { writer, instanceId, expireTime, transactionId, older };
		}
		if (this.#plain.writer !== writer) this.#plain = { writer, instanceId, expireTime, transactionId, older: NONE };
		return this.#plain;
	}

	/** The older versions of what is to be written; those that are not to be kept any longer are left over. */
	#olderOf(round: WriteRound, store: OpenStore, key: string, old: StoredEntry | undefined): readonly number[] {
		const kept = store.history - 1;
		let known = old?.facts.older ?? NONE;
		if (kept === 0 && known.length === 0) return NONE;
		if (old === undefined && kept > 0) {
			const tombstone = storeKeys.tombstone(store.id, key);
			const found = this.#kv.get(tombstone);
			if (found !== undefined) {
				known = decodeTombstone(found.value);
				round.leftovers.push({ key: tombstone, version: undefined });
			}
		}
		if (old !== undefined && kept > 0) known = [old.revision, ...known];
		for (const revision of known.slice(kept)) {
			const version = { storeId: store.id, revision };
			round.leftovers.push({ key: storeKeys.version(store.id, revision), version });
		}
		return known.length > kept ? known.slice(0, kept) : known;
	}

	#leaveIndexes(round: WriteRound, { storeId, key }: EntrySlot, old: EntryFacts, now: EntryFacts | undefined): void {
		if (old.expireTime !== 0 && old.expireTime !== now?.expireTime) {
			round.leftovers.push({ key: storeKeys.expiry(old.expireTime, storeId, key), version: undefined });
		}
		if (old.instanceId === "" || (old.instanceId === now?.instanceId && old.writer === now.writer)) return;
		const lease = storeKeys.lease(old.writer, old.instanceId, storeId, key);
		round.leftovers.push({ key: lease, version: undefined });
	}

	#count(
		round: WriteRound,
		storeId: string,
		old: StoredEntry | undefined,
		entry: StoredEntry | undefined,
		versions: number,
	): void {
		const keys = (entry === undefined ? 0 : 1) - (old === undefined ? 0 : 1);
		const bytes = (entry?.bytes ?? 0) - (old?.bytes ?? 0);
		round.count(this.#usage.row(storeId, ""), keys, bytes, versions);
		const before = old?.facts.writer;
		if (before !== undefined && before === entry?.facts.writer) {
			round.count(this.#usage.row(storeId, before), keys, bytes, 0);
			return;
		}
		if (old !== undefined) round.count(this.#usage.row(storeId, old.facts.writer), -1, -old.bytes, 0);
		if (entry !== undefined) round.count(this.#usage.row(storeId, entry.facts.writer), 1, entry.bytes, 0);
	}
}
