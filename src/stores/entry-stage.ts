import { ChangeCause } from "#gen/qirvo/hub/v1/entries_pb.js";
import type { KvStore } from "../state/kv-store.ts";
import { encodeEntry } from "./entry-record.ts";
import type { InstanceLeases } from "./instance-leases.ts";
import type { OpenStore } from "./open-store.ts";
import { storeKeys } from "./store-keys.ts";
import type { StoredEntry } from "./stored-entry.ts";
import type { UsageBook } from "./usage-book.ts";
import { decodeTombstone, type EntryEnd, encodeEndNote, encodeTombstone, encodeVersion } from "./version-record.ts";
import type { WriteRound } from "./write-round.ts";

/** A value that is to be put under a key. */
export interface NewValue {
	readonly store: OpenStore;
	readonly key: string;
	/** In the keyspace. */
	readonly entryKey: string;
	/** What is there now. */
	readonly old: StoredEntry | undefined;
	/** A `Payload` in wire form. */
	readonly value: Uint8Array;
	/** Milliseconds since the Unix epoch; 0: never. */
	readonly expireTime: number;
	readonly writer: string;
	readonly instanceId: string;
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

	constructor(parts: { readonly kv: KvStore; readonly usage: UsageBook; readonly leases: InstanceLeases }) {
		this.#kv = parts.kv;
		this.#usage = parts.usage;
		this.#leases = parts.leases;
	}

	/** Why the entry is over, though it may not be deleted yet; undefined: it is not. */
	endOf(entry: StoredEntry, now: number): ChangeCause.EXPIRED | ChangeCause.LEASE_ENDED | undefined {
		if (entry.expireTime !== 0 && entry.expireTime <= now) return ChangeCause.EXPIRED;
		if (entry.instanceId === "" || this.#leases.isLive(entry.writer, entry.instanceId)) return undefined;
		return ChangeCause.LEASE_ENDED;
	}

	/** Gives the place of the write. */
	put(round: WriteRound, draft: NewValue): number {
		const { store, key, entryKey, old, expireTime, writer, instanceId } = draft;
		const { now } = round;
		const older = this.#olderOf(round, store, key, old);
		const entry = encodeEntry({
			key,
			value: draft.value,
			createTime: old?.createTime ?? now,
			updateTime: now,
			expireTime,
			writer,
			instanceId,
			transactionId: draft.transactionId,
			older,
		});
		round.checks.push({ key: entryKey, revision: old?.revision ?? 0 });
		const index = round.write({ key: entryKey, value: entry.record! });
		round.staged.push({ storeId: store.id, key, index, before: old, after: entry });
		const keepsOld = old !== undefined && store.history > 1;
		if (keepsOld) {
			round.write({ key: storeKeys.version(store.id, old.revision), value: encodeVersion(old, undefined) });
		}
		if (expireTime !== 0 && expireTime !== old?.expireTime) {
			round.firstExpiry = Math.min(round.firstExpiry, expireTime);
			round.revive(storeKeys.expiry(expireTime, store.id, key));
		}
		if (instanceId !== "" && (instanceId !== old?.instanceId || writer !== old.writer)) {
			round.revive(storeKeys.lease(writer, instanceId, store.id, key));
		}
		if (old !== undefined) this.#leaveIndexes(round, store.id, key, old, entry);
		this.#count(round, store.id, old, entry, keepsOld ? 1 : 0);
		return index;
	}

	/** Deletes an entry. Gives the place of the write. */
	end(round: WriteRound, store: OpenStore, key: string, entryKey: string, old: StoredEntry, end: EntryEnd): number {
		const note = encodeEndNote(end);
		round.checks.push({ key: entryKey, revision: old.revision });
		const index = round.write({ key: entryKey, delete: true, note });
		round.staged.push({ storeId: store.id, key, index, before: old, after: undefined });
		const keepsOld = store.history > 1;
		const older = this.#olderOf(round, store, key, old);
		if (keepsOld) {
			// Next to the deletion: that is how its revision is told.
			round.write({ key: storeKeys.version(store.id, old.revision), value: encodeVersion(old, note) });
			round.revive(storeKeys.tombstone(store.id, key), encodeTombstone(older));
		}
		this.#leaveIndexes(round, store.id, key, old, undefined);
		this.#count(round, store.id, old, undefined, keepsOld ? 1 : 0);
		return index;
	}

	/** The older versions of what is to be written; those that are not to be kept any longer are left over. */
	#olderOf(round: WriteRound, store: OpenStore, key: string, old: StoredEntry | undefined): readonly number[] {
		const kept = store.history - 1;
		let known = old?.older ?? NONE;
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

	#leaveIndexes(
		round: WriteRound,
		storeId: string,
		key: string,
		old: StoredEntry,
		entry: StoredEntry | undefined,
	): void {
		if (old.expireTime !== 0 && old.expireTime !== entry?.expireTime) {
			round.leftovers.push({ key: storeKeys.expiry(old.expireTime, storeId, key), version: undefined });
		}
		if (old.instanceId === "" || (old.instanceId === entry?.instanceId && old.writer === entry.writer)) return;
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
		if (old !== undefined && old.writer === entry?.writer) {
			round.count(this.#usage.row(storeId, old.writer), keys, bytes, 0);
			return;
		}
		if (old !== undefined) round.count(this.#usage.row(storeId, old.writer), -1, -old.bytes, 0);
		if (entry !== undefined) round.count(this.#usage.row(storeId, entry.writer), 1, entry.bytes, 0);
	}
}
