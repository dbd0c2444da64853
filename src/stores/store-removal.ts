import type { Clock, IdSource, Timer } from "../clock/clock.ts";
import { repeatUnknown } from "../idempotency/storage-refusal.ts";
import type { KvEntry, KvStore, KvWrite } from "../state/kv-store.ts";
import { prefixEnd } from "../state/state-backend.ts";
import { decodeEntry } from "./entry-record.ts";
import { storeKeys, storePrefixes } from "./store-keys.ts";

export interface StoreRemovalOptions {
	readonly kv: KvStore;
	readonly clock: Clock;
	readonly ids: IdSource;
	/** Told of faults that no caller waits for. */
	readonly onFault: (what: string, error: unknown) => void;
}

/** Entries of one commit; each has at most two keys in indexes. */
const ENTRIES = 300;
const KEYS = 900;
const RETRY_MS = 1000;

/**
 * Removes what is left of deleted stores, one after another, in commits of bounded size. A mark, made with the deletion, says
 * that there is something left: it goes last, and what a crash interrupts is taken up at the next start.
 */
export class StoreRemoval implements AsyncDisposable {
	readonly #options: StoreRemovalOptions;
	readonly #waiting: string[] = [];
	#running: Promise<void> | undefined;
	#retry: Timer | undefined;
	#disposed = false;

	constructor(options: StoreRemovalOptions) {
		this.#options = options;
	}

	/** Begins with what an earlier run left. */
	start(): void {
		const end = prefixEnd(storePrefixes.doomed);
		for (let start: string = storePrefixes.doomed; ; ) {
			const page = this.#options.kv.range({ start, end, limit: KEYS });
			for (const { key } of page.entries) this.#waiting.push(key.slice(storePrefixes.doomed.length));
			if (!page.more) break;
			start = `${page.entries.at(-1)!.key}\0`;
		}
		this.#run();
	}

	/** Removes what is stored for that id, whose mark is there. */
	remove(storeId: string): void {
		this.#waiting.push(storeId);
		this.#run();
	}

	/** Resolves once nothing is left to remove. */
	async idle(): Promise<void> {
		while (this.#running !== undefined) await this.#running;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#disposed = true;
		this.#retry?.cancel();
		await this.#running;
	}

	#run(): void {
		if (this.#waiting.length > 0 && this.#retry === undefined && !this.#disposed) this.#running ??= this.#removeAll();
	}

	async #removeAll(): Promise<void> {
		try {
			while (this.#waiting.length > 0 && !this.#disposed) {
				if (await this.#removeSome(this.#waiting[0]!)) this.#waiting.shift();
			}
		} catch (error) {
			if (!this.#disposed) {
				this.#options.onFault("remove a deleted store", error);
				this.#retry = this.#options.clock.after(RETRY_MS, () => {
					this.#retry = undefined;
					this.#run();
				});
			}
		}
		this.#running = undefined;
	}

	/** One commit. True: nothing is left. */
	async #removeSome(id: string): Promise<boolean> {
		const entries = this.#page(storeKeys.entries(id), ENTRIES).entries;
		if (entries.length > 0) {
			await this.#commit(entries.flatMap((entry) => withIndexes(id, entry)));
			return false;
		}
		for (const prefix of [storeKeys.versions(id), storeKeys.tombstones(id), storeKeys.usage(id, "")]) {
			const page = this.#page(prefix, KEYS).entries;
			if (page.length === 0) continue;
			await this.#commit(page.map(({ key }) => ({ key, delete: true })));
			return false;
		}
		await this.#commit([{ key: storeKeys.doomed(id), delete: true }]);
		return true;
	}

	#page(start: string, limit: number) {
		return this.#options.kv.range({ start, end: prefixEnd(start), limit });
	}

	async #commit(writes: readonly KvWrite[]): Promise<void> {
		const { kv, ids } = this.#options;
		await repeatUnknown(kv, { id: ids.next(), writes });
	}
}

function withIndexes(storeId: string, stored: KvEntry): readonly KvWrite[] {
	const { expireTime, writer, instanceId } = decodeEntry(stored).facts;
	const key = stored.key.slice(storeKeys.entries(storeId).length);
	// Whoever watched it was told that the store is gone.
	const writes: KvWrite[] = [{ key: stored.key, delete: true, silent: true }];
	if (expireTime !== 0) writes.push({ key: storeKeys.expiry(expireTime, storeId, key), delete: true });
	if (instanceId !== "") writes.push({ key: storeKeys.lease(writer, instanceId, storeId, key), delete: true });
	return writes;
}
