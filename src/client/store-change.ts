import { ChangeCause } from "#gen/qirvo/hub/v1/entries_pb.js";
import type { EntryChange } from "#gen/qirvo/hub/v1/store_watch_pb.js";
import { toDate } from "./durations.ts";
import type { Data } from "./payload.ts";
import { type StoreEntry, viewEntry } from "./store-entry.ts";
import type { StoreSchema } from "./store-schema.ts";

/** What made a change. */
export type StoreCause = "set" | "deleted" | "expired" | "lease-ended";

/** One entry of a store as it was and is. */
export interface StoreChange<T = Data> {
	readonly key: string;
	/** As it is; undefined: it is gone. */
	readonly entry: StoreEntry<T> | undefined;
	/** As it was; undefined in a snapshot, for a new key, and where `resynced`. */
	readonly previous: StoreEntry<T> | undefined;
	/** Of the write. */
	readonly revision: bigint;
	/** Who wrote or deleted; empty: the hub, at the entry's end, or not known where `resynced`. */
	readonly actor: string;
	readonly cause: StoreCause;
	/** The transaction that it was part of; empty: none. */
	readonly transactionId: string;
	/** When it was made; undefined where that is not known. */
	readonly time: Date | undefined;
	/** Older changes of this key that were not told on their own, because the reader was slow. */
	readonly coalesced: number;
	/** Part of what was there when the watch began. */
	readonly isSnapshot: boolean;
	/**
	 * Found by comparing a new snapshot with what was told before, since the hub no longer had the changes in between: there may have
	 * been others of this key. A deletion found so has no actor and no time, and the revision of the snapshot.
	 */
	readonly resynced: boolean;
}

/** A change as the feed gives it. */
export interface FedChange {
	readonly change: EntryChange;
	readonly isSnapshot: boolean;
	readonly resynced: boolean;
}

/** The change as a reader of the store sees it. A promise only where the schema gives one. */
export function viewChange<T>(
	fed: FedChange,
	schema: StoreSchema<T> | undefined,
): StoreChange<T> | Promise<StoreChange<T>> {
	const entry = fed.change.entry && viewEntry(fed.change.entry, schema);
	const previous = fed.change.previous && viewEntry(fed.change.previous, schema);
	if (!(entry instanceof Promise || previous instanceof Promise)) return describe(fed, entry, previous);
	return Promise.all([entry, previous]).then(([now, before]) => describe(fed, now, before));
}

function describe<T>(
	{ change, isSnapshot, resynced }: FedChange,
	entry: StoreEntry<T> | undefined,
	previous: StoreEntry<T> | undefined,
): StoreChange<T> {
	const { key, revision, actor, transactionId, coalesced } = change;
	const time = change.time && toDate(change.time);
	const cause = causeOf(change.cause);
	return { key, entry, previous, revision, actor, cause, transactionId, time, coalesced, isSnapshot, resynced };
}

const CAUSES: ReadonlyMap<ChangeCause, StoreCause> = new Map<ChangeCause, StoreCause>([
	[ChangeCause.SET, "set"],
	[ChangeCause.DELETED, "deleted"],
	[ChangeCause.EXPIRED, "expired"],
	[ChangeCause.LEASE_ENDED, "lease-ended"],
]);

export function causeOf(cause: ChangeCause): StoreCause {
	return CAUSES.get(cause) ?? "set";
}
