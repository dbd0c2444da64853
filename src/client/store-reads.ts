import type { Client } from "@connectrpc/connect";
import type { StoreService } from "#gen/qirvo/hub/v1/store_service_pb.js";
import type { ClientContext } from "./client-context.ts";
import { toDate } from "./durations.ts";
import type { FeedPosition } from "./feed-position.ts";
import { type CallOptions, repeatCall } from "./repeat-call.ts";
import { causeOf, type FedChange, type StoreCause } from "./store-change.ts";
import { type AnyEntry, type StoreEntry, viewEntry } from "./store-entry.ts";
import { StoreFeed } from "./store-feed.ts";
import { feedRequest, type WatchedStore } from "./store-watch.ts";

export interface StoreListOptions extends CallOptions {
	/** Only keys that begin so. */
	readonly prefix?: string;
	/** Only keys that this matches: `*` is any run of characters but `/`, `**` any run, `?` one character. */
	readonly glob?: string;
	/** From the last key to the first. */
	readonly reverse?: boolean;
	/** Entries in one call, at most 1,000. Default 100. */
	readonly pageSize?: number;
}

export interface HistoryOptions extends CallOptions {
	/** Versions in one call, at most 64. Default 16. */
	readonly pageSize?: number;
}

/** One version of a key. */
export interface StoreVersion<T> {
	/** Of the write. */
	readonly revision: bigint;
	readonly time: Date | undefined;
	/** Who wrote or deleted; empty: the hub, at the entry's end. */
	readonly actor: string;
	readonly cause: StoreCause;
	/** Undefined: it was deleted. */
	readonly entry: StoreEntry<T> | undefined;
}

/** What was there at one moment. */
export interface StoreSnapshot<T> {
	readonly entries: ReadonlyMap<string, StoreEntry<T>>;
	/** The moment: a watch that starts here tells what came after it. */
	readonly position: FeedPosition;
}

/** Reads of many entries, by calls. */
export class StoreReads<T> {
	readonly #store: WatchedStore<T>;
	readonly #context: ClientContext;
	readonly #client: Client<typeof StoreService>;

	constructor(store: WatchedStore<T>, client: Client<typeof StoreService>) {
		this.#store = store;
		this.#context = store.context;
		this.#client = client;
	}

	async *list(options: StoreListOptions): AsyncGenerator<StoreEntry<T>, void, undefined> {
		for await (const entries of this.#pages(options, false)) {
			for (const entry of entries) yield await viewEntry(entry, this.#store.schema);
		}
	}

	async *keys(options: StoreListOptions): AsyncGenerator<string, void, undefined> {
		for await (const entries of this.#pages(options, true)) for (const { key } of entries) yield key;
	}

	async *history(key: string, options: HistoryOptions): AsyncGenerator<StoreVersion<T>, void, undefined> {
		const { pageSize = 16, ...call } = options;
		const request = { store: this.#store.name, key, pageSize };
		let pageToken = "";
		do {
			const page = await repeatCall(this.#context, call, (options) =>
				this.#client.listHistory({ ...request, pageToken }, options),
			);
			for (const { revision, time, actor, cause, entry } of page.versions) {
				const view = entry && (await viewEntry(entry, this.#store.schema));
				yield { revision, time: time && toDate(time), actor, cause: causeOf(cause), entry: view };
			}
			pageToken = page.nextPageToken;
		} while (pageToken !== "");
	}

	/** By a watch that is left as soon as it has caught up. */
	async snapshot({ glob, timeout, signal }: StoreListOptions): Promise<StoreSnapshot<T>> {
		const { name, schema } = this.#store;
		const entries = new Map<string, StoreEntry<T>>();
		let position: FeedPosition | undefined;
		const take = async (changes: readonly FedChange[]) => {
			for (const { change } of changes) {
				if (change.entry) entries.set(change.key, await viewEntry(change.entry, schema));
				else entries.delete(change.key);
			}
		};
		return await repeatCall(this.#context, { timeout, signal }, async ({ signal: attempt }) => {
			const controller = new AbortController();
			entries.clear();
			const feed = new StoreFeed(this.#context, feedRequest(name, { glob }), {
				deliver: take,
				onLive: (at) => {
					position = at;
					controller.abort();
				},
			});
			const error = await feed.run(AbortSignal.any([controller.signal, attempt]));
			if (position === undefined) throw error ?? attempt.reason;
			return { entries, position };
		});
	}

	async *#pages(options: StoreListOptions, keysOnly: boolean): AsyncGenerator<readonly AnyEntry[], void, undefined> {
		const { prefix = "", glob = "", reverse = false, pageSize = 100, ...call } = options;
		const request = { store: this.#store.name, prefix, glob, reverse, pageSize, keysOnly };
		let pageToken = "";
		do {
			const page = await repeatCall(this.#context, call, (options) =>
				this.#client.list({ ...request, pageToken }, options),
			);
			yield page.entries;
			pageToken = page.nextPageToken;
		} while (pageToken !== "");
	}
}
