import type { Entry } from "#gen/qirvo/hub/v1/entries_pb.js";
import type { EntryChange } from "#gen/qirvo/hub/v1/store_watch_pb.js";
import { Backoff } from "../streams/backoff.ts";
import { parseKeyGlob } from "../subjects/key-glob.ts";
import type { ClientContext } from "./client-context.ts";
import type { FeedPosition } from "./feed-position.ts";
import { pause } from "./pause.ts";
import { payloadSize } from "./payload.ts";
import { StoreFeed } from "./store-feed.ts";
import { invalid } from "./store-options.ts";
import type { WriteListener } from "./store-traffic.ts";

export interface CacheOptions {
	/** Keys to keep, as in `watch`. Default: every key. */
	readonly glob?: string;
	/** Entries kept at most; beyond it those go that were used longest ago. Default 10,000. */
	readonly maxEntries?: number;
	/** Bytes of keys and values kept at most. Default 16 MiB. */
	readonly maxBytes?: number;
}

/** Any change of a key is awaited. */
const NEXT_CHANGE = "next change";

interface Kept {
	readonly entry: Entry;
	readonly revision: bigint;
	readonly bytes: number;
}

/** What must be told of a key before it may be answered for. */
interface Awaited {
	/** A revision of it, or any change. */
	readonly until: bigint | typeof NEXT_CHANGE;
	/** Of the cache when it began to wait. */
	readonly generation: number;
}

/** What the cache knows of a key: its entry, that there is none (`missing`), or nothing that may be shown (`unknown`). */
export type Lookup = Entry | "missing" | "unknown";

/** Keys of own writes that may be on their way back at once; with more nothing is answered from the cache until they are in. */
const MAX_AWAITED = 10_000;
const ENTRY_BYTES = 256;
const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 60_000;

/**
 * Entries of a store kept up to date by a watch. What it answers was so at the hub a moment ago: as long as a change takes to come
 * here, and, on a connection that is dead without anybody noticing, until three heartbeats are missed. While the watch is not live
 * it answers nothing. It never shows a key older than what this client has written to it, or has read of it through the cached
 * store, before; other watches of the client may be ahead of it.
 */
export class StoreCache implements WriteListener, Disposable {
	readonly #context: ClientContext;
	readonly #store: string;
	readonly #matches: (key: string) => boolean;
	readonly #options: Required<CacheOptions>;
	readonly #controller = new AbortController();
	/** In the order of their last use. */
	readonly #kept = new Map<string, Kept>();
	/** Keys that must not be answered for until the watch has come to a revision of theirs. */
	readonly #awaited = new Map<string, Awaited>();
	/** The same for all keys, where `#awaited` is full. */
	#awaitedByAll = 0n;
	#bytes = 0;
	/** Every entry that there is, is kept: a key that is not kept does not exist. */
	#isWhole = true;
	#position: FeedPosition | undefined;
	/** Grows with each loss. */
	#generation = 0;
	#live = false;
	#started = false;
	#waiting: (() => void)[] = [];

	/** Throws INVALID_FIELD on a glob that is none. */
	constructor(context: ClientContext, store: string, options: CacheOptions) {
		this.#context = context;
		this.#store = store;
		this.#matches = matcher(options.glob ?? "");
		this.#options = { glob: "", maxEntries: 10_000, maxBytes: 16 * 1024 * 1024, ...options };
	}

	/** Entries kept. */
	get size(): number {
		return this.#kept.size;
	}

	/** Whether it answers at all. */
	get isLive(): boolean {
		return this.#live;
	}

	/** Begins to watch, where that has not begun. */
	start(): void {
		if (this.#started) return;
		this.#started = true;
		void this.#run();
	}

	/** Resolves once it is live; also when it is disposed of. */
	async live(): Promise<void> {
		this.start();
		while (!this.#live && !this.#controller.signal.aborted) {
			await new Promise<void>((resolve) => {
				this.#waiting.push(resolve);
			});
		}
	}

	get(key: string): Lookup {
		if (!this.#live || !this.#matches(key)) return "unknown";
		if (this.#awaited.has(key) || this.#awaitedByAll > 0n) return "unknown";
		const kept = this.#kept.get(key);
		if (kept === undefined) return this.#isWhole ? "missing" : "unknown";
		this.#kept.delete(key);
		this.#kept.set(key, kept);
		return ownCopy(kept.entry);
	}

	/** The hub has answered a read of this client; undefined: there is no entry. */
	wasRead(key: string, revision: bigint | undefined): void {
		if (!this.#matches(key)) return;
		if (revision !== undefined) this.#await(key, revision);
		else if (this.#kept.has(key) || !this.#live) this.#await(key, NEXT_CHANGE);
	}

	wrote(key: string, revision: bigint): void {
		if (!this.#matches(key)) return;
		if (revision > 0n) this.#await(key, revision);
		else if (this.#kept.has(key) || !this.#live) this.#await(key, NEXT_CHANGE);
	}

	[Symbol.dispose](): void {
		this.#controller.abort();
		this.#lose();
		this.#wake();
	}

	async #run(): Promise<void> {
		const { clock, random, session } = this.#context;
		const signal = AbortSignal.any([this.#controller.signal, session.signal]);
		const backoff = new Backoff({ initialMs: FIRST_WAIT_MS, maxMs: LONGEST_WAIT_MS, random });
		while (!signal.aborted) {
			this.#clear();
			const error = await this.#feed(() => backoff.reset()).run(signal);
			this.#lose();
			// Otherwise the store is not there, or not for this plugin: it may be later.
			if (error?.reason !== "POSITION_TRIMMED") await pause(clock, FIRST_WAIT_MS + backoff.next(), signal);
		}
		this.#clear();
		this.#controller.abort();
		this.#wake();
	}

	/** Nothing is compared after a gap: the cache begins anew. */
	#feed(onLive: () => void): StoreFeed {
		const request = { store: this.#store, glob: this.#options.glob, start: "snapshot", maxTracked: 0 } as const;
		return new StoreFeed(this.#context, request, {
			deliver: (changes) => {
				for (const { change } of changes) this.#apply(change);
			},
			onPosition: (position) => this.#moveTo(position),
			onLost: () => this.#lose(),
			onLive: () => {
				onLive();
				this.#live = true;
				this.#settleAwaited();
				this.#wake();
			},
		});
	}

	#apply({ key, entry, revision }: EntryChange): void {
		this.#drop(key);
		if (entry !== undefined) this.#keep(key, entry);
		const awaited = this.#awaited.get(key);
		if (awaited === undefined) return;
		if (awaited.until === NEXT_CHANGE ? this.#live : revision >= awaited.until) this.#awaited.delete(key);
	}

	#keep(key: string, entry: Entry): void {
		const { maxEntries, maxBytes } = this.#options;
		const bytes = ENTRY_BYTES + key.length + payloadSize(entry.value);
		this.#kept.set(key, { entry: ownCopy(entry), revision: entry.revision, bytes });
		this.#bytes += bytes;
		for (const oldest of this.#kept.keys()) {
			if (this.#kept.size <= maxEntries && this.#bytes <= maxBytes) return;
			this.#drop(oldest);
			this.#isWhole = false;
		}
	}

	#drop(key: string): void {
		const kept = this.#kept.get(key);
		if (kept === undefined) return;
		this.#kept.delete(key);
		this.#bytes -= kept.bytes;
	}

	/** Answers nothing for the key until the watch has shown what this client knows already. */
	#await(key: string, until: Awaited["until"]): void {
		const { until: before = 0n } = this.#awaited.get(key) ?? {};
		if (until !== NEXT_CHANGE) {
			if (before !== NEXT_CHANGE && before >= until) return;
			if (this.#live && this.#hasTold(key, until)) {
				this.#awaited.delete(key);
				return;
			}
		}
		if (this.#awaited.has(key) || this.#awaited.size < MAX_AWAITED) {
			this.#awaited.set(key, { until, generation: this.#generation });
		} else if (until === NEXT_CHANGE) {
			this.#drop(key);
			this.#isWhole = false;
		} else if (until > this.#awaitedByAll) this.#awaitedByAll = until;
	}

	#hasTold(key: string, revision: bigint): boolean {
		const position = this.#position?.sequence ?? 0n;
		return position >= revision || (this.#kept.get(key)?.revision ?? 0n) >= revision;
	}

	#moveTo(position: FeedPosition): void {
		if (this.#position !== undefined && this.#position.epoch !== position.epoch) this.#forgetBefore();
		this.#position = position;
		if (this.#awaitedByAll > 0n && position.sequence >= this.#awaitedByAll) this.#awaitedByAll = 0n;
	}

	/** The store is another one: what was awaited of the one before does not come. */
	#forgetBefore(): void {
		for (const [key, { generation }] of this.#awaited) if (generation < this.#generation) this.#awaited.delete(key);
		this.#awaitedByAll = 0n;
	}

	/** Lets go of what the snapshot, or what came after a loss, has shown. */
	#settleAwaited(): void {
		for (const [key, { until }] of this.#awaited) {
			if (until === NEXT_CHANGE ? !this.#kept.has(key) && this.#isWhole : this.#hasTold(key, until))
				this.#awaited.delete(key);
		}
	}

	#lose(): void {
		if (this.#live) this.#generation++;
		this.#live = false;
	}

	#clear(): void {
		this.#generation++;
		this.#kept.clear();
		this.#bytes = 0;
		this.#isWhole = true;
	}

	#wake(): void {
		const waiting = this.#waiting;
		this.#waiting = [];
		for (const wake of waiting) wake();
	}
}

/** A copy that does not keep the frame alive that it came in, and that nobody else can change. */
function ownCopy(entry: Entry): Entry {
	const body = entry.value?.body;
	if (body?.case !== "binary") return entry;
	return { ...entry, value: { ...entry.value!, body: { case: "binary", value: body.value.slice() } } };
}

function matcher(glob: string): (key: string) => boolean {
	if (glob === "") return () => true;
	try {
		const parsed = parseKeyGlob(glob, "cache.glob");
		return (key) => parsed.matches(key);
	} catch (error) {
		throw invalid("cache.glob", (error as Error).message);
	}
}
