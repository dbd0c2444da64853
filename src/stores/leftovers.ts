import type { KvStore } from "../state/kv-store.ts";
import { readPlain } from "./entry-record.ts";
import type { OpenStore } from "./open-store.ts";
import { storeKeys } from "./store-keys.ts";
import { STORE_LIMITS } from "./store-limits.ts";
import type { UsageBook } from "./usage-book.ts";
import { decodeTombstone, decodeVersion } from "./version-record.ts";
import type { Leftover, WriteRound } from "./write-round.ts";

/** From here on commits are given to leftovers alone, until there are fewer. */
const MANY = 5000;
/** Old versions beyond a store's bound that one commit takes away. */
const EVICTED = 200;

/**
 * What writes have made superfluous: keys of indexes, tombstones, old versions. Deleted with later commits, in the room that
 * they have left, so that what a unit may write does not depend on what it replaces. What a crash forgets does no harm: an
 * index's key is looked at again when its time comes, and a version counts until it is among the oldest.
 */
export class Leftovers {
	readonly #kv: KvStore;
	readonly #usage: UsageBook;
	readonly #storeOf: (id: string) => OpenStore | undefined;
	readonly #waiting = new Map<string, Leftover>();

	constructor(parts: {
		readonly kv: KvStore;
		readonly usage: UsageBook;
		readonly storeOf: (id: string) => OpenStore | undefined;
	}) {
		this.#kv = parts.kv;
		this.#usage = parts.usage;
		this.#storeOf = parts.storeOf;
	}

	get size(): number {
		return this.#waiting.size;
	}

	get areMany(): boolean {
		return this.#waiting.size >= MANY;
	}

	/** Deletes what there is room for. Nothing may be added to the round after it. Gives what it has taken. */
	take(round: WriteRound): readonly Leftover[] {
		this.#evict(round);
		if (this.#waiting.size === 0) return [];
		const written = new Set(round.writes.map(({ key }) => key));
		const taken: Leftover[] = [];
		for (const leftover of this.#waiting.values()) {
			if (round.room < 4) break;
			round.begin();
			if (!written.has(leftover.key)) this.#delete(leftover, round, written);
			if (!round.fits) {
				round.rollBack();
				break;
			}
			taken.push(leftover);
		}
		return taken;
	}

	/** The round is stored. */
	settle(round: WriteRound, taken: readonly Leftover[]): void {
		for (const { key } of taken) this.#waiting.delete(key);
		for (const key of round.revived) this.#waiting.delete(key);
		for (const leftover of round.leftovers) this.#waiting.set(leftover.key, leftover);
	}

	#delete({ key, version }: Leftover, round: WriteRound, written: ReadonlySet<string>): void {
		if (version === undefined) {
			round.write({ key, delete: true });
			return;
		}
		const { storeId, revision } = version;
		const store = this.#storeOf(storeId);
		const entry = store && this.#kv.get(key);
		// Of a store that is deleted everything is removed anyway.
		if (store === undefined || entry === undefined) return;
		round.stores.set(storeId, store);
		round.checks.push({ key, revision: entry.revision });
		round.write({ key, delete: true });
		round.count(this.#usage.row(storeId, ""), 0, 0, -1);
		const { end, entry: plain } = decodeVersion(entry.value);
		if (end === undefined) return;
		// With the newest version of a deleted key goes what says that there are any.
		const tombstone = storeKeys.tombstone(storeId, readPlain(plain).key);
		const found = this.#kv.get(tombstone);
		if (found === undefined || written.has(tombstone) || this.#waiting.has(tombstone)) return;
		if (decodeTombstone(found.value)[0] === revision) round.write({ key: tombstone, delete: true });
	}

	/** Finds the oldest versions of stores that have too many. */
	#evict(round: WriteRound): void {
		for (const row of [...round.rows]) {
			const excess = row.nextVersions - STORE_LIMITS.storeVersions;
			if (excess <= 0) continue;
			const start = storeKeys.versions(row.storeId);
			const page = this.#kv.range({ start, end: `${start}~`, limit: Math.min(excess, EVICTED) });
			for (const { key } of page.entries) {
				const revision = Number.parseInt(key.slice(start.length), 16);
				this.#waiting.set(key, { key, version: { storeId: row.storeId, revision } });
			}
		}
	}
}
