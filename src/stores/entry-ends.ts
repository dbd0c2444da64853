import type { Clock, Timer } from "../clock/clock.ts";
import type { KvEntry, KvStore } from "../state/kv-store.ts";
import { prefixEnd } from "../state/state-backend.ts";
import type { EntryWriter } from "./entry-writer.ts";
import type { InstanceLeases } from "./instance-leases.ts";
import { parseExpiry, parseLease, storeKeys, storePrefixes } from "./store-keys.ts";

export interface EntryEndsOptions {
	readonly kv: KvStore;
	readonly clock: Clock;
	readonly writer: EntryWriter;
	readonly leases: InstanceLeases;
	/** Told of faults that no caller waits for. */
	readonly onFault: (what: string, error: unknown) => void;
}

/** Entries that end together at most. */
const PAGE = 256;
/** How long to wait after a fault of the store, in milliseconds. */
const RETRY_MS = 1000;
/** The wall clock may be stepped, so it is looked at again after this long at most, in milliseconds. */
const MAX_WAIT_MS = 60_000;

interface Instance {
	readonly pluginId: string;
	readonly instanceId: string;
}

/**
 * Ends entries whose time is over, and those that live by an instance that has ended. What ends when is in two indexes, so
 * nothing is looked for: the timer is set to the first time in one, and what lives by an instance is together in the other. The
 * writer decides whether an entry is over, at its turn.
 */
export class EntryEnds implements AsyncDisposable {
	readonly #options: EntryEndsOptions;
	#timer: Timer | undefined;
	/** When the timer runs, in milliseconds since the Unix epoch. */
	#due = Number.POSITIVE_INFINITY;
	#expiring: Promise<void> | undefined;
	readonly #ended: Instance[] = [];
	#ending: Promise<void> | undefined;
	#retry: Timer | undefined;
	#subscription: Disposable | undefined;
	#disposed = false;

	constructor(options: EntryEndsOptions) {
		this.#options = options;
	}

	/** Begins with what ended while nobody looked. */
	start(): void {
		const { leases } = this.#options;
		this.#subscription = leases.onEnd((pluginId, instanceId) => this.#end({ pluginId, instanceId }));
		this.lookAgain();
	}

	/** Entries were written past the writer: the indexes may say something new. */
	lookAgain(): void {
		const { leases } = this.#options;
		for (const instance of this.#instances()) {
			if (!leases.isLive(instance.pluginId, instance.instanceId)) this.#end(instance);
		}
		if (this.#expiring === undefined) this.#arm(0);
	}

	/** An entry was written that ends at that time, in milliseconds since the Unix epoch. */
	expiresAt(time: number): void {
		if (time < this.#due && this.#expiring === undefined) this.#set(time, 0);
	}

	/** Resolves once nothing is being ended. */
	async idle(): Promise<void> {
		while (this.#expiring !== undefined || this.#ending !== undefined) {
			await this.#expiring;
			await this.#ending;
		}
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#disposed = true;
		this.#subscription?.[Symbol.dispose]();
		this.#timer?.cancel();
		this.#retry?.cancel();
		this.#ended.length = 0;
		await this.idle();
	}

	/** Sets the timer to the first time in the index, but not before `leastMs` have passed. */
	#arm(leastMs: number): void {
		const { kv } = this.#options;
		const start = storePrefixes.expiries;
		const [first] = kv.range({ start, end: prefixEnd(start), limit: 1 }).entries;
		this.#timer?.cancel();
		this.#timer = undefined;
		this.#due = Number.POSITIVE_INFINITY;
		if (first !== undefined) this.#set(parseExpiry(first.key).time, leastMs);
	}

	#set(time: number, leastMs: number): void {
		if (this.#disposed) return;
		const { clock } = this.#options;
		this.#timer?.cancel();
		this.#due = time;
		const wait = Math.min(Math.max(time - clock.now(), leastMs), MAX_WAIT_MS);
		this.#timer = clock.after(wait, () => {
			this.#timer = undefined;
			this.#expiring = this.#expire();
		});
	}

	async #expire(): Promise<void> {
		const { kv, clock } = this.#options;
		let leastMs = 0;
		try {
			let start: string = storePrefixes.expiries;
			let now: number;
			for (;;) {
				now = clock.now();
				const end = storeKeys.expiries(now + 1);
				const page = kv.range({ start, end, limit: PAGE });
				await this.#endAll(page.entries, parseExpiry);
				if (!page.more || this.#disposed) break;
				// What is behind is ended, or waits for something else.
				start = `${page.entries.at(-1)!.key}\0`;
			}
			// What was over and is still there would be found again at once. What is over since was not looked at.
			leastMs = RETRY_MS;
			const [first] = kv.range({
				start: storePrefixes.expiries,
				end: prefixEnd(storePrefixes.expiries),
				limit: 1,
			}).entries;
			if (first !== undefined && parseExpiry(first.key).time > now) leastMs = 0;
		} catch (error) {
			leastMs = RETRY_MS;
			if (!this.#disposed) this.#options.onFault("end entries whose time is over", error);
		}
		this.#expiring = undefined;
		if (!this.#disposed) this.#arm(leastMs);
	}

	#end(instance: Instance): void {
		this.#ended.push(instance);
		if (this.#retry === undefined) this.#ending ??= this.#endInstances();
	}

	async #endInstances(): Promise<void> {
		try {
			while (this.#ended.length > 0 && !this.#disposed) {
				// What is decided may live by this instance, and is in no index yet; what is decided from now on does not.
				await this.#options.writer.decidedSettled();
				await this.#endInstance(this.#ended[0]!);
				this.#ended.shift();
			}
		} catch (error) {
			if (!this.#disposed) {
				this.#options.onFault("end entries of an instance", error);
				this.#retry = this.#options.clock.after(RETRY_MS, () => {
					this.#retry = undefined;
					this.#ending ??= this.#endInstances();
				});
			}
		}
		this.#ending = undefined;
	}

	/** All that lives by the instance. */
	async #endInstance({ pluginId, instanceId }: Instance): Promise<void> {
		const prefix = storeKeys.leases(pluginId, instanceId);
		const end = prefixEnd(prefix);
		for (let start = prefix; !this.#disposed; ) {
			const page = this.#options.kv.range({ start, end, limit: PAGE });
			await this.#endAll(page.entries, parseLease);
			if (!page.more) return;
			start = `${page.entries.at(-1)!.key}\0`;
		}
	}

	/** Rejects with the first fault. */
	async #endAll(
		entries: readonly KvEntry[],
		parse: (key: string) => { readonly storeId: string; readonly key: string },
	): Promise<void> {
		if (entries.length === 0) return;
		const { promise, resolve, reject } = Promise.withResolvers<void>();
		let open = entries.length;
		const settled = (error?: unknown) => {
			if (error !== undefined) reject(error);
			else if (--open === 0) resolve();
		};
		for (const { key: indexKey } of entries) {
			const { storeId, key } = parse(indexKey);
			this.#options.writer.end({ storeId, key, indexKey, settled });
		}
		await promise;
	}

	/** By which entries live; one look for each. */
	*#instances(): Generator<Instance, void, undefined> {
		const end = prefixEnd(storePrefixes.leases);
		for (let start: string = storePrefixes.leases; ; ) {
			const [first] = this.#options.kv.range({ start, end, limit: 1 }).entries;
			if (first === undefined) return;
			const { pluginId, instanceId } = parseLease(first.key);
			yield { pluginId, instanceId };
			start = prefixEnd(storeKeys.leases(pluginId, instanceId));
		}
	}
}
