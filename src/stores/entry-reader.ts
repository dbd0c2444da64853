import type { Clock } from "../clock/clock.ts";
import { compareKeys } from "../state/key-order.ts";
import type { KvStore } from "../state/kv-store.ts";
import type { EntryCache } from "./entry-cache.ts";
import type { EntryPage, EntryQuery, VersionPage } from "./entry-query.ts";
import { decodeEntry } from "./entry-record.ts";
import type { EntryStage } from "./entry-stage.ts";
import type { OpenStore } from "./open-store.ts";
import { storeKeys } from "./store-keys.ts";
import { STORE_LIMITS } from "./store-limits.ts";
import { decodeTombstone, oldVersions, presentVersion } from "./version-record.ts";

export interface EntryReaderOptions {
	readonly kv: KvStore;
	readonly clock: Clock;
	readonly cache: EntryCache;
	readonly stage: Pick<EntryStage, "endOf">;
}

/** Entries that one look into the keyspace gives. */
const LOOK = 500;

/** Reads entries. One whose time is over, or whose instance has ended, is not there, whether it is deleted already or not. */
export class EntryReader {
	readonly #options: EntryReaderOptions;

	constructor(options: EntryReaderOptions) {
		this.#options = options;
	}

	/** The entry in wire form with its revisions, which must not be changed; undefined: there is none. */
	get(store: OpenStore, key: string): Uint8Array | undefined {
		const { cache, stage, clock } = this.#options;
		store.activity.gets++;
		const entry = cache.get(store.id, key);
		if (entry !== undefined && (!entry.mayEnd || stage.endOf(entry, clock.now()) === undefined)) return entry.wire;
		store.activity.misses++;
		return undefined;
	}

	/** A page is what was there at one moment. It looks at a bounded number of entries, so it may be short and not the last. */
	list(store: OpenStore, query: EntryQuery): EntryPage {
		const { kv, clock, stage } = this.#options;
		store.activity.pages++;
		const base = storeKeys.entries(store.id);
		const bounds = boundsOf(base, query);
		if (bounds === undefined) return { entries: [], next: undefined, revision: kv.revision };
		let { start } = bounds;
		let { end } = bounds;
		const now = clock.now();
		const entries: Uint8Array[] = [];
		let bytes = 0;
		let revision: number | undefined;
		let last = query.after;
		for (let scanned = 0; ; ) {
			const limit = query.glob === undefined ? Math.min(LOOK, query.limit - entries.length + 1) : LOOK;
			const page = kv.range({ start, end, limit, reverse: query.reverse });
			revision ??= page.revision;
			for (const found of page.entries) {
				// What is behind was there at another moment.
				const isFull = entries.length === query.limit || bytes >= STORE_LIMITS.pageBytes || page.revision !== revision;
				if (isFull) return { entries, next: last, revision };
				const key = found.key.slice(base.length);
				last = key;
				scanned++;
				if (query.glob !== undefined && !query.glob.matches(key)) continue;
				const entry = decodeEntry(found);
				if (stage.endOf(entry, now) !== undefined) continue;
				const wire = query.keysOnly ? entry.wireWithoutValue : entry.wire;
				entries.push(wire);
				bytes += wire.byteLength;
			}
			if (!page.more) return { entries, next: undefined, revision };
			if (scanned >= STORE_LIMITS.scannedEntries) return { entries, next: last, revision };
			if (query.reverse) end = `${base}${last}`;
			else start = `${base}${last}\0`;
		}
	}

	/**
	 * The newest versions that are older than revision `before`, at most `limit` and about 1 MiB; undefined: from the newest of
	 * all. A deletion counts as one.
	 */
	history(
		store: OpenStore,
		key: string,
		{ limit, before = Number.POSITIVE_INFINITY }: { readonly limit: number; readonly before: number | undefined },
	): VersionPage {
		store.activity.pages++;
		const versions: Uint8Array[] = [];
		let bytes = 0;
		let last = 0;
		for (const { revision, version } of this.#versions(store, key)) {
			if (revision >= before) continue;
			if (versions.length === limit || bytes >= STORE_LIMITS.pageBytes) return { versions, next: last };
			versions.push(version);
			bytes += version.byteLength;
			last = revision;
		}
		return { versions, next: undefined };
	}

	*#versions(store: OpenStore, key: string): Generator<{ readonly revision: number; readonly version: Uint8Array }> {
		const { kv, cache } = this.#options;
		const entry = cache.get(store.id, key);
		let older = entry?.facts.older;
		if (entry !== undefined) yield { revision: entry.revision, version: presentVersion(entry) };
		if (older === undefined) {
			const tombstone = kv.get(storeKeys.tombstone(store.id, key));
			older = tombstone === undefined ? [] : decodeTombstone(tombstone.value);
		}
		for (const revision of older.slice(0, store.history - 1)) {
			const found = kv.get(storeKeys.version(store.id, revision));
			// The oldest versions of a store go when there are too many.
			if (found === undefined) return;
			yield* oldVersions(found, revision);
		}
	}
}

/** The keys of the keyspace among which the page is; undefined: it can hold none. */
function boundsOf(
	base: string,
	{ prefix, glob, after, reverse }: EntryQuery,
): { readonly start: string; readonly end: string } | undefined {
	const [short, long] = [prefix, glob?.prefix ?? ""].sort((a, b) => a.length - b.length) as [string, string];
	if (!long.startsWith(short)) return undefined;
	const start = base + long;
	const end = behind(start);
	if (after === undefined) return { start, end };
	const at = reverse ? base + after : `${base}${after}\0`;
	if (reverse) return compareKeys(at, end) < 0 ? { start, end: at } : { start, end };
	return compareKeys(at, start) > 0 ? { start: at, end } : { start, end };
}

/** The smallest string above all that begin with this one, which has a character below the last of all. */
function behind(prefix: string): string {
	const characters = [...prefix];
	for (;;) {
		const last = characters.pop()!.codePointAt(0)!;
		if (last === 0x10ffff) continue;
		// Surrogates are no characters.
		return characters.join("") + String.fromCodePoint(last === 0xd7ff ? 0xe000 : last + 1);
	}
}
