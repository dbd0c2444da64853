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

interface Kept {
	readonly entry: Entry;
	readonly revision: bigint;
	readonly bytes: number;
}

/** A moment of the cache's life. */
interface Moment {
	/** Streams that had ended. */
	readonly generation: number;
	/** Heartbeats that had come. */
	readonly beats: number;
}

/** What must be told before a key may be answered for. */
interface Awaited {
	/** A revision of the key; 0: none. */
	readonly revision: bigint;
	/** When this client learned that there was no entry: the hub does not say as of which revision. */
	readonly absence: Moment | undefined;
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
	#absenceOfAny: Moment | undefined;
	#bytes = 0;
	/** Every entry that there is, is kept: a key that is not kept does not exist. */
	#isWhole = true;
	#position: FeedPosition | undefined;
	/** Grows with the end of each stream. */
	#generation = 0;
	/** Heartbeats that came: then there was nothing to tell. */
	#beats = 0;
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
		if (this.#awaited.has(key) || this.#awaitedByAll > 0n || this.#absenceOfAny) return "unknown";
		const kept = this.#kept.get(key);
		if (kept === undefined) return this.#isWhole ? "missing" : "unknown";
		this.#kept.delete(key);
		this.#kept.set(key, kept);
		return ownCopy(kept.entry);
	}

	/** The hub has answered a read of this client; undefined: there is no entry. */
	wasRead(key: string, revision: bigint | undefined): void {
		this.wrote(key, revision ?? 0n);
	}

	wrote(key: string, revision: bigint): void {
		if (!this.#matches(key)) return;
		if (revision === 0n) this.#awaitAbsence(key);
		else this.#awaitRevision(key, revision);
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
			onIdle: () => {
				this.#beats++;
				this.#settleAwaited();
			},
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
		if (awaited !== undefined && awaited.absence === undefined && revision >= awaited.revision)
			this.#awaited.delete(key);
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

	/** Answers nothing for the key until the watch has told what this client knows already. */
	#awaitRevision(key: string, revision: bigint): void {
		const before = this.#awaited.get(key);
		if ((before?.revision ?? 0n) >= revision || (this.#live && this.#hasTold(key, revision))) return;
		if (before !== undefined || this.#awaited.size < MAX_AWAITED) {
			this.#awaited.set(key, { revision, absence: before?.absence });
		} else if (revision > this.#awaitedByAll) this.#awaitedByAll = revision;
	}

	#awaitAbsence(key: string): void {
		const before = this.#awaited.get(key);
		const absence = this.#now();
		if (before !== undefined || this.#awaited.size < MAX_AWAITED) {
			this.#awaited.set(key, { revision: before?.revision ?? 0n, absence });
		} else this.#absenceOfAny = absence;
	}

	#now(): Moment {
		return { generation: this.#generation, beats: this.#beats };
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

	/** The store is another one, whose revisions may begin anew: what was awaited is told with all that is there. */
	#forgetBefore(): void {
		const absence = this.#now();
		for (const key of this.#awaited.keys()) this.#awaited.set(key, { revision: 0n, absence });
		if (this.#awaitedByAll > 0n) this.#absenceOfAny = absence;
		this.#awaitedByAll = 0n;
	}

	/** Lets go of what has been told by now. */
	#settleAwaited(): void {
		for (const [key, { revision, absence }] of this.#awaited) {
			const isTold = this.#hasTold(key, revision);
			if (absence !== undefined && !this.#isPast(absence)) continue;
			if (isTold) this.#awaited.delete(key);
			else if (absence !== undefined) this.#awaited.set(key, { revision, absence: undefined });
		}
		if (this.#absenceOfAny && this.#isPast(this.#absenceOfAny)) this.#absenceOfAny = undefined;
	}

	/**
	 * Whether all is told that was so when the wait began: by a stream that began after it and has caught up, or by one that had nothing to
	 * tell after it. The first heartbeat may have been on its way already.
	 */
	#isPast({ generation, beats }: Moment): boolean {
		return this.#live && (generation < this.#generation || this.#beats >= beats + 2);
	}

	#lose(): void {
		this.#generation++;
		this.#live = false;
	}

	#clear(): void {
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
