import type { Clock, IdSource } from "../clock/clock.ts";
import type { FirstAnswers } from "../idempotency/first-answers.ts";
import type { KvStore } from "../state/kv-store.ts";
import { EntryCache } from "./entry-cache.ts";
import { EntryEnds } from "./entry-ends.ts";
import { EntryReader } from "./entry-reader.ts";
import { EntryStage } from "./entry-stage.ts";
import { EntryWriter } from "./entry-writer.ts";
import type { InstanceLeases } from "./instance-leases.ts";
import type { OpenStore } from "./open-store.ts";
import { StoreRemoval } from "./store-removal.ts";
import { UsageBook } from "./usage-book.ts";
import type { WriteRound } from "./write-round.ts";

export interface EntryKeyspaceOptions {
	readonly kv: KvStore;
	readonly answers: FirstAnswers;
	readonly clock: Clock;
	readonly ids: IdSource;
	readonly leases: InstanceLeases;
	/** The store as it is now; undefined where this life of it is over. */
	readonly storeOf: (id: string) => OpenStore | undefined;
	/** Told of faults that no caller waits for. */
	readonly onFault: (what: string, error: unknown) => void;
	/** Bytes of entries that are held in memory, about. */
	readonly cacheBytes?: number | undefined;
}

/** The entries of the stores that are kept in one keyspace. */
export class EntryKeyspace implements AsyncDisposable {
	readonly kv: KvStore;
	readonly usage: UsageBook;
	readonly #cache: EntryCache;
	readonly writer: EntryWriter;
	readonly reader: EntryReader;
	readonly ends: EntryEnds;
	readonly removal: StoreRemoval;

	constructor(options: EntryKeyspaceOptions) {
		const { kv } = options;
		const cache = new EntryCache(kv, options.cacheBytes);
		const usage = new UsageBook(kv);
		const stage = new EntryStage({ ...options, usage, slabs: cache.slabs });
		const parts = { ...options, cache, usage, stage };
		this.kv = kv;
		this.usage = usage;
		this.#cache = cache;
		this.reader = new EntryReader(parts);
		this.writer = new EntryWriter({ ...parts, onStored: (round) => this.#stored(round) });
		this.ends = new EntryEnds({ ...options, writer: this.writer });
		this.removal = new StoreRemoval(options);
	}

	/** Takes up what an earlier run left to be ended and removed. */
	start(): void {
		this.removal.start();
		this.ends.start();
	}

	/** A store of it was deleted: what is left is removed. */
	remove(storeId: string): void {
		this.usage.forget(storeId);
		this.#cache.forgetStore(storeId);
		this.removal.remove(storeId);
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.ends[Symbol.asyncDispose]();
		await this.writer[Symbol.asyncDispose]();
		await this.removal[Symbol.asyncDispose]();
	}

	#stored(round: WriteRound): void {
		if (round.firstExpiry < Number.POSITIVE_INFINITY) this.ends.expiresAt(round.firstExpiry);
	}
}
