import type { Clock, IdSource, Timer } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import type { LogStore } from "../state/log-store.ts";
import { type Start, startPosition } from "./start-position.ts";
import type { Subscriber } from "./subscriber.ts";
import { Subscription } from "./subscription.ts";
import type { SubscriptionOptions } from "./subscription-options.ts";
import type { TailPump } from "./tail-pump.ts";

export interface SubscriptionBounds {
	/** Subscriptions that one principal may have open. Default 1,000. */
	readonly perPrincipal: number;
	/** Runs of live events that may wait for one subscription. Default 1,024. */
	readonly bufferRuns: number;
	/**
	 * Bytes of live events that may wait for one subscription. Default 4 MiB: one flush hands over all that was in flight,
	 * and a reader that keeps up would otherwise have to fetch it from the log again.
	 */
	readonly bufferBytes: number;
	/** A subscription is ended when its peer takes nothing for this long, in milliseconds, ... Default 30 s. */
	readonly stalledMs: number;
	/** ... and more than this many events are stored that it has not examined. Default 10,000. */
	readonly stalledLag: number;
}

export const SUBSCRIPTION_BOUNDS: SubscriptionBounds = Object.freeze({
	perPrincipal: 1000,
	bufferRuns: 1024,
	bufferBytes: 4 * 1024 * 1024,
	stalledMs: 30_000,
	stalledLag: 10_000,
});

const SWEEP_MS = 1000;

export interface SubscriptionsOptions {
	readonly log: LogStore;
	readonly pump: TailPump;
	readonly clock: Clock;
	readonly ids: IdSource;
	readonly bounds?: Partial<SubscriptionBounds>;
}

export interface SubscriptionsQuery {
	/** Empty: any. */
	readonly pluginId: string;
	/** The last id of the page before; empty: the first page. */
	readonly after: string;
	readonly limit: number;
}

export interface SubscriptionsPage {
	readonly subscriptions: readonly Subscription[];
	/** What the next page comes after; undefined: this was the last. */
	readonly next: string | undefined;
}

/** The open subscriptions, and the end of those whose peers take nothing. */
export class Subscriptions implements Disposable {
	readonly #options: SubscriptionsOptions;
	readonly #bounds: SubscriptionBounds;
	readonly #open = new Map<string, Subscription>();
	/** Entries live only as long as a principal has subscriptions. */
	readonly #counts = new Map<string, number>();
	#sweep: Timer | undefined;

	constructor(options: SubscriptionsOptions) {
		this.#options = options;
		this.#bounds = { ...SUBSCRIPTION_BOUNDS, ...options.bounds };
	}

	get size(): number {
		return this.#open.size;
	}

	start(): void {
		this.#sweep ??= this.#options.clock.every(SWEEP_MS, () => this.#endStalled());
	}

	/**
	 * Opens a subscription that its `frames()` reader must end. `tokenFrom` makes what it is resumed with from the first
	 * sequence that it wants; called for live ones only. Throws LIMIT_EXCEEDED, POSITION_TRIMMED.
	 */
	async open(
		subscriber: Subscriber,
		start: Start,
		options: SubscriptionOptions,
		tokenFrom: (sequence: number) => string = () => "",
	): Promise<Subscription> {
		const release = this.#count(subscriber.principal);
		try {
			const { log, pump, clock, ids } = this.#options;
			const began = log.bounds().next;
			const position = await startPosition(log, start);
			const id = ids.next();
			const subscription = new Subscription({
				id,
				subscriber,
				options,
				from: position.sequence,
				began,
				exactStart: position.exact,
				notBefore: position.notBefore ?? Number.NEGATIVE_INFINITY,
				resumeToken: options.live ? tokenFrom(position.sequence) : "",
				log,
				pump,
				clock,
				bufferRuns: this.#bounds.bufferRuns,
				bufferBytes: this.#bounds.bufferBytes,
				onClose: () => {
					this.#open.delete(id);
					release();
				},
			});
			this.#open.set(id, subscription);
			return subscription;
		} catch (error) {
			release();
			throw error;
		}
	}

	/** Open subscriptions in order of id, after the one given: those of one plugin, or all where that is empty. */
	list({ pluginId, after, limit }: SubscriptionsQuery): SubscriptionsPage {
		const matching = [...this.#open.values()].filter(
			({ id, subscriber }) => id > after && (pluginId === "" || subscriber.pluginId === pluginId),
		);
		matching.sort((a, b) => (a.id < b.id ? -1 : 1));
		const subscriptions = matching.slice(0, limit);
		return { subscriptions, next: matching.length > limit ? subscriptions.at(-1)!.id : undefined };
	}

	/** Ends every subscription as the hub stops. */
	[Symbol.dispose](): void {
		this.#sweep?.cancel();
		this.#sweep = undefined;
		const error = new HubError("HUB_DRAINING", "the hub is shutting down");
		for (const subscription of [...this.#open.values()]) subscription.end(error, "draining");
	}

	#count(principal: string): () => void {
		const count = this.#counts.get(principal) ?? 0;
		const most = this.#bounds.perPrincipal;
		if (count >= most) {
			throw new HubError("LIMIT_EXCEEDED", `${most} subscriptions are open already`, {
				metadata: { limit: String(most) },
				quota: { subject: principal, description: `at most ${most} open subscriptions` },
			});
		}
		this.#counts.set(principal, count + 1);
		return () => {
			const left = this.#counts.get(principal)! - 1;
			if (left === 0) this.#counts.delete(principal);
			else this.#counts.set(principal, left);
		};
	}

	#endStalled(): void {
		const { stalledMs, stalledLag } = this.#bounds;
		for (const subscription of [...this.#open.values()]) {
			if (subscription.stalledMs < stalledMs || subscription.lag <= stalledLag) continue;
			subscription.endSlow(`no frame was taken for ${Math.round(subscription.stalledMs)} ms`);
		}
	}
}
