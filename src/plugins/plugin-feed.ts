import { HubError } from "../hub-error.ts";
import { CompactedError, type KvChange, type KvStore } from "../state/kv-store.ts";
import { admits, type Viewer } from "./access-control.ts";
import type { KnownPlugin } from "./known-plugin.ts";
import type { PluginIndex, PluginTransition } from "./plugin-index.ts";
import { PLUGIN_PREFIX, parsePluginKey } from "./plugin-keys.ts";
import { before as beforeChanges } from "./plugin-parts.ts";

/**
 * One plugin as the reader was told of it last and as it is. Both are undefined only after a resume, where the reader may
 * have been told of it behind its position and it is gone.
 */
export interface FeedChange {
	readonly id: string;
	readonly before: KnownPlugin | undefined;
	readonly after: KnownPlugin | undefined;
}

export interface FeedOptions {
	readonly kv: KvStore;
	readonly index: PluginIndex;
	/** Whose view it is: plugins that do not admit the viewer are not there. */
	readonly viewer: Viewer;
	/** Only this plugin. */
	readonly pluginId?: string;
}

const SCANNED_PER_TAKE = 1000;

/**
 * One reader's view of all plugins: first those that are there (or what changed since a revision), then every change.
 *
 *     open at R ── round 1: the snapshot ── caught up, position R ── round 2: what changed meanwhile ── ...
 *
 * A round is a set of plugin ids; what it tells of each is its state at the moment it is told. Changes that come while a
 * round is told go into the next one, unless the id is still to be told in this one. The position moves at the end of a
 * round, to what the index showed at its begin, so that resuming from it misses nothing and may tell something again.
 * Bounded by the number of plugins, however slow the reader: several changes of one plugin are told as one.
 */
export class PluginFeed implements Disposable {
	readonly #options: FeedOptions;
	/** To be told, with how the reader knows them. */
	#round: Map<string, KnownPlugin | undefined>;
	#next = new Map<string, KnownPlugin | undefined>();
	/** Plugins that a resumed reader may have been told of although it does not know them at its position. */
	readonly #mayKnow = new Set<string>();
	#roundRevision: number;
	#position: number | undefined;
	#caughtUp = false;
	#wake: (() => void) | undefined;
	readonly #subscription: Disposable;

	private constructor(options: FeedOptions) {
		this.#options = options;
		this.#round = new Map();
		this.#roundRevision = options.index.revision;
		this.#subscription = options.index.onTransitions((transitions) => this.#note(transitions));
	}

	/** Begins with everything that is there. */
	static snapshot(options: FeedOptions): PluginFeed {
		const feed = new PluginFeed(options);
		for (const plugin of options.index.all()) {
			if (feed.#concerns(plugin.id)) feed.#round.set(plugin.id, undefined);
		}
		return feed;
	}

	/**
	 * Begins with what changed after `revision`. Refuses with POSITION_TRIMMED where that is not known any more, and with
	 * INVALID_FIELD where it lies ahead.
	 */
	static async resume(options: FeedOptions, revision: number, signal: AbortSignal): Promise<PluginFeed> {
		const { kv, index } = options;
		if (revision > index.revision) {
			await kv.barrier();
			if (revision > kv.revision) throw HubError.field("after.sequence", "lies ahead of the last change");
		}
		const feed = new PluginFeed(options);
		feed.#position = revision;
		try {
			for (const [id, changes] of await changesBetween(kv, revision, feed.#roundRevision, signal)) {
				if (!feed.#concerns(id)) continue;
				// What changed while the window was read is told with the rest of the plugin's changes.
				const since = feed.#next.has(id) ? feed.#next.get(id) : index.get(id);
				feed.#next.delete(id);
				let state = since;
				// A frame shows plugins as they are, which may be newer than the position that it carries.
				for (const change of changes.toReversed()) {
					if (feed.#visible(state)) feed.#mayKnow.add(id);
					state = beforeChanges(state, [change]);
				}
				feed.#round.set(id, state);
			}
			return feed;
		} catch (error) {
			feed[Symbol.dispose]();
			throw error;
		}
	}

	/** The revision to resume after; undefined while the snapshot is not complete. */
	get position(): number | undefined {
		return this.#position;
	}

	/** True from the moment that everything that was there at the begin has been taken. */
	get caughtUp(): boolean {
		return this.#caughtUp;
	}

	/**
	 * At most `maxChanges` changes of about `maxBytes` (one at least). Ends where the feed is first caught up, so that this
	 * may be told. Empty where nothing waits, and where a thousand plugins were passed over that are not shown: then
	 * `waiting` is still true, and others should have a turn.
	 */
	take(maxChanges: number, maxBytes: number): FeedChange[] {
		const changes: FeedChange[] = [];
		let bytes = 0;
		let scanned = 0;
		if (this.#caughtUp && this.#round.size === 0) this.#beginRound();
		while (true) {
			for (const [id, known] of this.#round) {
				if (changes.length >= maxChanges || bytes >= maxBytes || scanned++ >= SCANNED_PER_TAKE) return changes;
				this.#round.delete(id);
				const before = this.#visible(known);
				const after = this.#visible(this.#options.index.get(id));
				const isGone = this.#mayKnow.delete(id) && after === undefined;
				if (before === after && !isGone) continue;
				changes.push({ id, before, after });
				bytes += (before?.registration.byteLength ?? 0) + (after?.registration.byteLength ?? 0);
			}
			this.#position = this.#roundRevision;
			const isFirst = !this.#caughtUp;
			this.#caughtUp = true;
			if (isFirst || changes.length > 0 || this.#next.size === 0) return changes;
			this.#beginRound();
		}
	}

	/** Whether `take` may have something to give. */
	get waiting(): boolean {
		return !this.#caughtUp || this.#round.size > 0 || this.#next.size > 0;
	}

	/** Resolves once something waits, or the feed is disposed. Of several waits the last counts. */
	wait(): Promise<void> {
		if (this.waiting) return Promise.resolve();
		const { promise, resolve } = Promise.withResolvers<void>();
		this.#wake = resolve;
		return promise;
	}

	[Symbol.dispose](): void {
		this.#subscription[Symbol.dispose]();
		this.#notify();
	}

	#beginRound(): void {
		this.#round = this.#next;
		this.#next = new Map();
		this.#roundRevision = this.#options.index.revision;
	}

	#note(transitions: readonly PluginTransition[]): void {
		for (const { id, before } of transitions) {
			if (this.#concerns(id) && !this.#round.has(id) && !this.#next.has(id)) this.#next.set(id, before);
		}
		if (this.#next.size > 0) this.#notify();
	}

	#notify(): void {
		this.#wake?.();
		this.#wake = undefined;
	}

	#concerns(id: string): boolean {
		return this.#options.pluginId === undefined || this.#options.pluginId === id;
	}

	#visible(known: KnownPlugin | undefined): KnownPlugin | undefined {
		return known && admits(known, this.#options.viewer) ? known : undefined;
	}
}

/** The changes of each plugin with `after < revision <= until`; `until` is the revision of a change. */
async function changesBetween(
	kv: KvStore,
	after: number,
	until: number,
	signal: AbortSignal,
): Promise<ReadonlyMap<string, readonly KvChange[]>> {
	const byPlugin = new Map<string, KvChange[]>();
	if (after >= until) return byPlugin;
	const reading = new AbortController();
	try {
		const changes = kv.watch(PLUGIN_PREFIX, { after, signal: AbortSignal.any([signal, reading.signal]) });
		for await (const batch of changes) {
			for (const change of batch) {
				if (change.revision > until) return byPlugin;
				const id = parsePluginKey(change.key)?.pluginId;
				if (id === undefined) continue;
				const mine = byPlugin.get(id);
				if (mine) mine.push(change);
				else byPlugin.set(id, [change]);
			}
			if ((batch.at(-1)?.revision ?? 0) >= until) return byPlugin;
		}
		signal.throwIfAborted();
		throw new HubError("HUB_DRAINING", "the hub is shutting down");
	} catch (error) {
		if (!(error instanceof CompactedError)) throw error;
		throw positionTrimmed(error);
	} finally {
		reading.abort();
	}
}

/** The refusal to resume where the changes since then are not known any more. */
export function positionTrimmed(cause?: CompactedError): HubError {
	return new HubError(
		"POSITION_TRIMMED",
		"after: the changes since then are not kept any more; begin with a snapshot",
		{
			metadata: cause ? { oldest: String(cause.oldest) } : {},
			cause,
		},
	);
}
