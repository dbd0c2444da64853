import type { Clock } from "../clock/clock.ts";
import type { KvChange, KvStore } from "./kv-store.ts";

/** How long the follower waits before it watches again after a fault of the store, in milliseconds. */
const RETRY_MS = 250;

export interface KeyFollowerOptions {
	readonly kv: KvStore;
	readonly clock: Clock;
	readonly prefix: string;
	/** Called with each commit that touched the prefix, in order. Must not throw. */
	readonly changed: (changes: readonly KvChange[]) => void;
	/** Called when changes were missed: everything under the prefix may have changed. Must not throw. */
	readonly missed: () => void;
}

/** Follows the keys of a prefix until it is disposed, through faults and compactions of the store. */
export class KeyFollower implements AsyncDisposable {
	readonly #options: KeyFollowerOptions;
	readonly #stop = new AbortController();
	#running: Promise<void> | undefined;

	constructor(options: KeyFollowerOptions) {
		this.#options = options;
	}

	/** No change made after this call returns is missed. */
	start(): void {
		this.#running ??= this.#follow(this.#watch());
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#stop.abort();
		await this.#running;
	}

	#watch(): AsyncIterable<readonly KvChange[]> {
		return this.#options.kv.watch(this.#options.prefix, { signal: this.#stop.signal });
	}

	async #follow(first: AsyncIterable<readonly KvChange[]>): Promise<void> {
		for (let changes: typeof first | undefined = first; ; changes = this.#watchAgain()) {
			try {
				if (changes !== undefined) for await (const batch of changes) this.#options.changed(batch);
			} catch {
				// Too slow for the window, or a fault of the store. Either way what was missed is told below.
			}
			if (this.#stop.signal.aborted) return;
			await this.#pause();
			if (this.#stop.signal.aborted) return;
		}
	}

	/** undefined where the store cannot be watched now. */
	#watchAgain(): AsyncIterable<readonly KvChange[]> | undefined {
		try {
			const changes = this.#watch();
			this.#options.missed();
			return changes;
		} catch {
			return undefined;
		}
	}

	#pause(): Promise<void> {
		const { promise, resolve } = Promise.withResolvers<void>();
		const timer = this.#options.clock.after(RETRY_MS, resolve);
		const stop = () => resolve();
		this.#stop.signal.addEventListener("abort", stop, { once: true });
		return promise.finally(() => {
			timer.cancel();
			this.#stop.signal.removeEventListener("abort", stop);
		});
	}
}
