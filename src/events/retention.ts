import type { Clock, Timer } from "../clock/clock.ts";
import type { LogRetention, LogStore } from "../state/log-store.ts";

export interface RetentionOptions {
	readonly log: LogStore;
	readonly clock: Clock;
	/** What is kept. Without any bound nothing is ever dropped. */
	readonly keep: LogRetention;
	/** Milliseconds between looks. Default 30 s. */
	readonly everyMs?: number;
	/** Told of a trim that failed; the next look tries again. */
	readonly onFault: (error: unknown) => void;
}

const EVERY_MS = 30_000;

/** Drops what a log holds beyond its bounds, now and then. */
export class Retention implements AsyncDisposable {
	readonly #options: RetentionOptions;
	#timer: Timer | undefined;
	#trimming: Promise<void> | undefined;

	constructor(options: RetentionOptions) {
		this.#options = options;
	}

	start(): void {
		const { clock, keep, everyMs = EVERY_MS } = this.#options;
		if (keep.maxAgeMs === undefined && keep.maxRecords === undefined && keep.maxBytes === undefined) return;
		this.#timer ??= clock.every(everyMs, () => {
			this.#trimming ??= this.#trim();
		});
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#timer?.cancel();
		this.#timer = undefined;
		await this.#trimming;
	}

	async #trim(): Promise<void> {
		try {
			await this.#options.log.trim(this.#options.keep);
		} catch (error) {
			this.#options.onFault(error);
		} finally {
			this.#trimming = undefined;
		}
	}
}
