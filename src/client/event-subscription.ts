import type { ClientContext } from "./client-context.ts";
import { HubClientError } from "./errors.ts";
import { EventFeed, type FeedRequest } from "./event-feed.ts";
import type { FeedPosition } from "./feed-position.ts";
import type { HubEvent } from "./hub-event.ts";
import type { Data } from "./payload.ts";

/** Events between two positions that the hub no longer had when the subscription came back. */
export interface EventGap {
	/** The last position that was seen. */
	readonly after: FeedPosition;
	/** What the hub says of the oldest event that it has. */
	readonly metadata: Readonly<Record<string, string>>;
}

/** What went wrong, and where: at an event, or at a gap; neither where the subscription itself ended. */
export interface SubscriptionProblem<T = Data> {
	readonly event?: HubEvent<T>;
	readonly gap?: EventGap;
}

export interface SubscriptionHooks<T = Data> {
	/** The history that the start asked for has been passed. */
	readonly onCaughtUp?: () => void;
	/**
	 * A handler threw (the subscription goes on behind the event), events were lost to the hub's retention (a gap), or the
	 * subscription ended with an error. Default: the client's logger.
	 */
	readonly onError?: (error: unknown, problem: SubscriptionProblem<T>) => void;
	/** After a gap: `continue` with the oldest event there is (the default), or `stop`. `onError` is told either way. */
	readonly onGap?: "continue" | "stop";
}

export type EventHandler<T = Data> = (event: HubEvent<T>) => unknown;

/**
 * A handler's subscription. Each event is passed once, in order; the next waits until the handler is done. A handler that
 * throws has had the event.
 */
export class EventSubscription<T = Data> implements AsyncDisposable {
	readonly #controller = new AbortController();
	readonly #feed: EventFeed;
	readonly #ready = Promise.withResolvers<void>();
	readonly #context: ClientContext;
	readonly #handler: EventHandler<T>;
	readonly #hooks: SubscriptionHooks<T>;
	/** Resolves when no more events will be passed: with the error that ended it, or undefined after `unsubscribe`. */
	readonly closed: Promise<HubClientError | undefined>;
	#id = "";
	#last: HubEvent<T> | undefined;

	constructor(context: ClientContext, request: FeedRequest, handler: EventHandler<T>, hooks: SubscriptionHooks<T>) {
		this.#context = context;
		this.#handler = handler;
		this.#hooks = hooks;
		this.#feed = new EventFeed(context, request, {
			deliver: (events) => this.#deliver(events as readonly HubEvent<T>[]),
			onReady: (id) => {
				this.#id = id;
				this.#ready.resolve();
			},
			onCaughtUp: () => this.#guard(() => hooks.onCaughtUp?.()),
			onGap: (error, after) => {
				if (hooks.onGap === "stop") return false;
				this.#report(error, { gap: { after, metadata: error.metadata } });
				return true;
			},
		});
		this.closed = this.#run();
		this.#ready.promise.catch(() => {});
	}

	/** The hub's id of it, as it was at the first connection. */
	get id(): string {
		return this.#id;
	}

	/** Resolves once the hub accepted it: what is emitted from then on arrives. Rejects where the hub refuses. */
	get ready(): Promise<void> {
		return this.#ready.promise;
	}

	/** Behind the last event that was passed. A later subscription may start here. */
	get position(): FeedPosition | undefined {
		return this.#last?.position ?? this.#feed.position;
	}

	/** No event is passed any more; one that is being handled is finished. */
	unsubscribe(): void {
		this.#controller.abort();
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.unsubscribe();
	}

	async #run(): Promise<HubClientError | undefined> {
		const error = await this.#feed.run(this.#controller.signal);
		const wasReady = this.#id !== "";
		this.#ready.reject(error ?? new HubClientError("CANCELLED", "unsubscribed before the hub answered"));
		if (error === undefined || error.reason === "CLIENT_CLOSED") return undefined;
		if (wasReady) {
			const after = this.position;
			const isGap = error.reason === "POSITION_TRIMMED" && after !== undefined;
			this.#report(error, isGap ? { gap: { after, metadata: error.metadata } } : {});
		}
		return error;
	}

	/** Stays synchronous for as long as the handler does: a promise an event costs more than the event. */
	#deliver(events: readonly HubEvent<T>[]): void | Promise<void> {
		for (let index = 0; index < events.length; index++) {
			const pending = this.#pass(events[index]!);
			if (pending !== undefined) return this.#deliverRest(events, index, pending);
		}
		this.#last = undefined;
	}

	async #deliverRest(events: readonly HubEvent<T>[], at: number, first: Promise<void>): Promise<void> {
		await first;
		for (let index = at + 1; index < events.length; index++) await this.#pass(events[index]!);
		this.#last = undefined;
	}

	#pass(event: HubEvent<T>): Promise<void> | undefined {
		if (this.#controller.signal.aborted) return;
		try {
			const handled = this.#handler(event);
			if (isThenable(handled)) return this.#finish(event, handled);
		} catch (error) {
			this.#report(error, { event });
		}
		this.#last = event;
	}

	async #finish(event: HubEvent<T>, handled: PromiseLike<unknown>): Promise<void> {
		try {
			await handled;
		} catch (error) {
			this.#report(error, { event });
		}
		this.#last = event;
	}

	#report(error: unknown, problem: SubscriptionProblem<T>): void {
		const { onError } = this.#hooks;
		if (onError) this.#guard(() => onError(error, problem));
		else this.#context.logger.error({ err: error, gap: problem.gap }, "an event subscription has a problem");
	}

	#guard(run: () => void): void {
		try {
			run();
		} catch (error) {
			this.#context.logger.error({ err: error }, "a hook of an event subscription threw");
		}
	}
}

export function isThenable(value: unknown): value is PromiseLike<unknown> {
	return typeof (value as PromiseLike<unknown> | undefined)?.then === "function";
}
