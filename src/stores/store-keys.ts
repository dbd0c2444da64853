import { keys } from "../state/key-layout.ts";

/**
 * Keys of the stores. Those of entries have the store's id in them, so that a store that is made again shares nothing with the
 * one that was deleted. What plugins choose stands at the end of a key, and bounds of ranges end before it.
 */
export const storeKeys = Object.freeze({
	/** StoreRecord. */
	definition: (name: string) => `store/definition/${name}`,
	/** EntryRecord. Watches follow it, so it is in the common layout. */
	entry: keys.storeEntry,
	/** Begins the keys of a store's entries. */
	entries: (storeId: string) => `store/entry/${storeId}/`,
	/** VersionRecord. */
	version: (storeId: string, revision: number) => `store/version/${storeId}/${hex(revision)}`,
	/** Begins the keys of a store's old versions, the oldest first. */
	versions: (storeId: string) => `store/version/${storeId}/`,
	/** TombstoneRecord. */
	tombstone: (storeId: string, key: string) => `store/tombstone/${storeId}/${key}`,
	/** Begins the tombstones of a store. */
	tombstones: (storeId: string) => `store/tombstone/${storeId}/`,
	/** UsageRecord: of the store where `pluginId` is empty. */
	usage: (storeId: string, pluginId: string) => `store/usage/${storeId}/${pluginId}`,
	/** Empty: an entry ends at that time (milliseconds since the Unix epoch), unless it was written since. */
	expiry: (time: number, storeId: string, key: string) => `store/expiry/${hex(time)}/${storeId}/${key}`,
	/** Begins the expiries of a time. */
	expiries: (time: number) => `store/expiry/${hex(time)}/`,
	/** Empty: an entry lives by the lease of an instance, unless it was written since. */
	lease: (pluginId: string, instanceId: string, storeId: string, key: string) =>
		`store/lease/${pluginId}/${instanceId}/${storeId}/${key}`,
	/** Begins what lives by an instance. */
	leases: (pluginId: string, instanceId: string) => `store/lease/${pluginId}/${instanceId}/`,
	/** Empty: what is left of this deleted store is to be removed. */
	doomed: (storeId: string) => `store/doomed/${storeId}`,
});

export const storePrefixes = Object.freeze({
	definitions: "store/definition/",
	entries: "store/entry/",
	expiries: "store/expiry/",
	leases: "store/lease/",
	doomed: "store/doomed/",
});

/** An entry as the key of an index names it. */
export interface IndexedEntry {
	readonly storeId: string;
	readonly key: string;
}

/** The entry of an `entry` key; undefined: it is another. */
export function parseEntry(key: string): IndexedEntry | undefined {
	return key.startsWith(storePrefixes.entries) ? parseIndexed(key, storePrefixes.entries.length) : undefined;
}

/** The time and the entry of an `expiry` key. */
export function parseExpiry(key: string): IndexedEntry & { readonly time: number } {
	const at = storePrefixes.expiries.length;
	const time = Number.parseInt(key.slice(at, at + HEX_DIGITS), 16);
	return { time, ...parseIndexed(key, at + HEX_DIGITS + 1) };
}

/** The instance and the entry of a `lease` key. */
export function parseLease(key: string): IndexedEntry & { readonly pluginId: string; readonly instanceId: string } {
	const plugin = storePrefixes.leases.length;
	const instance = key.indexOf("/", plugin) + 1;
	const rest = key.indexOf("/", instance) + 1;
	return {
		pluginId: key.slice(plugin, instance - 1),
		instanceId: key.slice(instance, rest - 1),
		...parseIndexed(key, rest),
	};
}

function parseIndexed(key: string, at: number): IndexedEntry {
	const slash = key.indexOf("/", at);
	return { storeId: key.slice(at, slash), key: key.slice(slash + 1) };
}

/** Fixed in length for every safe integer, so that the order of keys is that of the numbers. */
const HEX_DIGITS = 14;

function hex(value: number): string {
	return value.toString(16).padStart(HEX_DIGITS, "0");
}
