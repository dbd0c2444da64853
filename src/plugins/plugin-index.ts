import type { Clock, IdSource } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import { CompactedError, type KvChange, type KvStore } from "../state/kv-store.ts";
import type { KnownPlugin } from "./known-plugin.ts";
import { EPOCH_KEY, PLUGIN_PREFIX, parsePluginKey } from "./plugin-keys.ts";
import { assemble, loadPlugins, partsOf, withKey } from "./plugin-parts.ts";

/** One plugin before and after a commit. */
export interface PluginTransition {
	readonly id: string;
	readonly before: KnownPlugin | undefined;
	readonly after: KnownPlugin | undefined;
}

/** Called with what one commit changed, once the index shows it. Must not throw and must return at once. */
export type TransitionListener = (transitions: readonly PluginTransition[]) => void;

const RELOAD_DELAY_MS = 1000;

/**
 * All registrations and who is there, in memory, as of one revision. Fed by one watch on the store, so it shows what any
 * hub node wrote, in the order of the commits; a commit of this node is waited for with `reached`. Bounded by what is
 * stored: the registry's limits on plugins and instances.
 *
 *     load at L ── watch after L ── mark the epoch key (E > L) ── apply ... E ── started ── apply ...
 *
 * The mark makes `revision` the revision of a change that a watch delivers, so that whoever reads changes up to it knows
 * when it has them all. Where the watch falls out of the change window everything is loaded again and the difference is
 * told.
 */
export class PluginIndex implements AsyncDisposable {
	readonly #kv: KvStore;
	readonly #clock: Clock;
	readonly #ids: IdSource;
	#plugins = new Map<string, KnownPlugin>();
	#sorted: string[] = [];
	#revision = 0;
	#epoch = "";
	readonly #listeners = new Set<TransitionListener>();
	/** One for each commit of this node that is stored and not yet shown. */
	#waiters: { readonly revision: number; readonly promise: PromiseWithResolvers<void> }[] = [];
	readonly #abort = new AbortController();
	#following: Promise<void> | undefined;

	constructor(options: { readonly kv: KvStore; readonly clock: Clock; readonly ids: IdSource }) {
		this.#kv = options.kv;
		this.#clock = options.clock;
		this.#ids = options.ids;
	}

	/** Names the numbering of `revision`: kept with the store, so that it changes when revisions start again. */
	get epoch(): string {
		return this.#epoch;
	}

	/** The last change that the index shows. */
	get revision(): number {
		return this.#revision;
	}

	get size(): number {
		return this.#plugins.size;
	}

	get(id: string): KnownPlugin | undefined {
		return this.#plugins.get(id);
	}

	/** Up to `limit` ids in order, beginning with the first after `after`. */
	idsAfter(after: string, limit: number): readonly string[] {
		let start = place(this.#sorted, after);
		if (this.#sorted[start] === after) start++;
		return this.#sorted.slice(start, start + limit);
	}

	all(): Iterable<KnownPlugin> {
		return this.#plugins.values();
	}

	onTransitions(listener: TransitionListener): Disposable {
		this.#listeners.add(listener);
		return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
	}

	/** Loads what is stored and follows it from then on. Once. */
	async start(): Promise<void> {
		const started = Promise.withResolvers<void>();
		this.#following = this.#followForEver(started);
		await started.promise;
	}

	/** Resolves once the index shows `revision`, which must be of a change under `plugin/`. */
	reached(revision: number): Promise<void> {
		if (revision <= this.#revision) return Promise.resolve();
		if (this.#abort.signal.aborted) return Promise.reject(stopped());
		const promise = Promise.withResolvers<void>();
		this.#waiters.push({ revision, promise });
		return promise.promise;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#abort.abort();
		await this.#following;
		for (const waiter of this.#waiters) waiter.promise.reject(stopped());
		this.#waiters = [];
		this.#listeners.clear();
	}

	async #followForEver(started: PromiseWithResolvers<void>): Promise<void> {
		let running = false;
		while (!this.#abort.signal.aborted) {
			try {
				await this.#follow(() => {
					running = true;
					started.resolve();
				});
			} catch (error) {
				// More was written than the window holds before it could be read: there is no fault to wait out.
				if (error instanceof CompactedError) continue;
				if (!running) return started.reject(error);
			}
			if (!running) return started.reject(stopped());
			await this.#pause();
		}
	}

	async #follow(ready: () => void): Promise<void> {
		// Ended with this attempt, so that a failed one leaves no watch behind.
		const attempt = new AbortController();
		const signal = AbortSignal.any([this.#abort.signal, attempt.signal]);
		try {
			const { plugins, revision } = loadPlugins(this.#kv);
			const changes = this.#kv.watch(PLUGIN_PREFIX, { after: revision, signal });
			const mark = await this.#mark();
			this.#replace(plugins);
			for await (const batch of changes) {
				this.#apply(batch);
				if (this.#revision >= mark) ready();
			}
		} finally {
			attempt.abort();
		}
	}

	async #mark(): Promise<number> {
		while (true) {
			const entry = this.#kv.get(EPOCH_KEY);
			const value = entry?.value ?? Buffer.from(this.#ids.next().slice(0, 32));
			const result = await this.#kv.commit({
				id: this.#ids.next(),
				checks: [{ key: EPOCH_KEY, revision: entry?.revision ?? 0 }],
				writes: [{ key: EPOCH_KEY, value }],
			});
			if (!result.ok) continue;
			this.#epoch = Buffer.from(value).toString();
			return result.revision;
		}
	}

	#replace(loaded: Map<string, KnownPlugin>): void {
		const old = this.#plugins;
		this.#plugins = loaded;
		this.#sorted = [...loaded.keys()].sort();
		const transitions: PluginTransition[] = [];
		for (const [id, before] of old) {
			const after = loaded.get(id);
			if (!after || !isSame(before, after)) transitions.push({ id, before, after });
		}
		for (const [id, after] of loaded) if (!old.has(id)) transitions.push({ id, before: undefined, after });
		this.#tell(transitions);
	}

	#apply(batch: readonly KvChange[]): void {
		let from = 0;
		for (let index = 0; index < batch.length; index++) {
			const change = batch[index]!;
			if (!change.lastOfCommit) continue;
			this.#applyCommit(batch.slice(from, index + 1));
			from = index + 1;
			this.#revision = change.revision;
		}
		if (this.#waiters.length === 0) return;
		const waiters = this.#waiters;
		this.#waiters = waiters.filter((waiter) => waiter.revision > this.#revision);
		for (const waiter of waiters) if (waiter.revision <= this.#revision) waiter.promise.resolve();
	}

	#applyCommit(changes: readonly KvChange[]): void {
		const touched = new Map<string, KvChange[]>();
		for (const change of changes) {
			const id = parsePluginKey(change.key)?.pluginId;
			if (id === undefined) continue;
			const mine = touched.get(id);
			if (mine) mine.push(change);
			else touched.set(id, [change]);
		}
		const transitions: PluginTransition[] = [];
		for (const [id, mine] of touched) {
			const before = this.#plugins.get(id);
			let parts = partsOf(before);
			for (const { key, value, revision } of mine) parts = withKey(parts, key, value, revision);
			const after = assemble(parts);
			this.#set(id, before, after);
			if (before || after) transitions.push({ id, before, after });
		}
		this.#tell(transitions);
	}

	#set(id: string, before: KnownPlugin | undefined, after: KnownPlugin | undefined): void {
		if (after) this.#plugins.set(id, after);
		else this.#plugins.delete(id);
		if (after && !before) this.#sorted.splice(place(this.#sorted, id), 0, id);
		else if (before && !after) this.#sorted.splice(place(this.#sorted, id), 1);
	}

	#tell(transitions: readonly PluginTransition[]): void {
		if (transitions.length === 0) return;
		for (const listener of [...this.#listeners]) listener(transitions);
	}

	#pause(): Promise<void> {
		const { promise, resolve } = Promise.withResolvers<void>();
		const timer = this.#clock.after(RELOAD_DELAY_MS, resolve);
		const { signal } = this.#abort;
		signal.addEventListener("abort", () => resolve(), { once: true });
		if (signal.aborted) resolve();
		return promise.finally(() => timer.cancel());
	}
}

function isSame(a: KnownPlugin, b: KnownPlugin): boolean {
	return (
		a.revision === b.revision &&
		a.wasThere === b.wasThere &&
		a.instances.length === b.instances.length &&
		a.instances.every(
			(instance, at) => instance.id === b.instances[at]?.id && instance.nodeId === b.instances[at].nodeId,
		)
	);
}

/** Where `id` is, or would be, in a sorted list. */
function place(sorted: readonly string[], id: string): number {
	let low = 0;
	let high = sorted.length;
	while (low < high) {
		const middle = (low + high) >>> 1;
		if (sorted[middle]! < id) low = middle + 1;
		else high = middle;
	}
	return low;
}

function stopped(): HubError {
	return new HubError("HUB_DRAINING", "the hub is shutting down");
}
