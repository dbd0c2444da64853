/** Which keys of a store are looked for. */
export interface KeyMatcher {
	/** With which every key begins that matches; the empty string: with anything. */
	readonly prefix: string;
	matches(key: string): boolean;
}

/** Which entries of a store are asked for. */
export interface EntryQuery {
	/** Only keys that begin so; empty: any. */
	readonly prefix: string;
	/** Only keys that match; undefined: any. */
	readonly glob: KeyMatcher | undefined;
	/** Only keys behind this one, in the order of the page; undefined: from the beginning. */
	readonly after: string | undefined;
	/** 1 to 1,000. */
	readonly limit: number;
	/** From the last key to the first. */
	readonly reverse: boolean;
	/** Leaves the values out. */
	readonly keysOnly: boolean;
}

/** Entries as they were at one moment. */
export interface EntryPage {
	/** In wire form with their revisions. Must not be changed. */
	readonly entries: readonly Uint8Array[];
	/** What to ask after for the next page; undefined: this was the last. A page may be short of entries and not the last. */
	readonly next: string | undefined;
	/** Of the keyspace at that moment. */
	readonly revision: number;
}

/** Versions of a key. */
export interface VersionPage {
	/** `EntryVersion`s in wire form, the newest first. */
	readonly versions: readonly Uint8Array[];
	/** What to give as `before` for the next page; undefined: this was the last. */
	readonly next: number | undefined;
}
