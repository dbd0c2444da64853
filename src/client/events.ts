import { type Client, Code, createClient } from "@connectrpc/connect";
import { EventService, ListOrder, type Subscription } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { Admission } from "./admission.ts";
import type { ClientContext } from "./client-context.ts";
import { DurableEvents, type DurableOptions } from "./durable-events.ts";
import { toTimestamp } from "./durations.ts";
import { EmitCalls } from "./emit-calls.ts";
import { EmitChannel } from "./emit-channel.ts";
import type { EmitSink } from "./emit-sink.ts";
import { cancelled, HubClientError, toClientError } from "./errors.ts";
import { EventEncoder, type EventFields } from "./event-encoder.ts";
import type { EventStart, FeedRequest } from "./event-feed.ts";
import { streamEvents } from "./event-stream.ts";
import { type EventHandler, EventSubscription, type SubscriptionHooks } from "./event-subscription.ts";
import { HubEvent } from "./hub-event.ts";
import type { Data } from "./payload.ts";
import { type EmitResult, PendingEmit } from "./pending-emit.ts";

/** Events that may be on their way to the hub before `emit` waits. */
const MAX_UNACKNOWLEDGED = 16_384;
const MAX_UNACKNOWLEDGED_BYTES = 32 * 1024 * 1024;

export interface EmitOptions extends EventFields {
	/** Names the event, 1-128 bytes; emitting an id again within two minutes stores nothing. Default: a new one. */
	readonly id?: string;
	/** When it happened. Default: now; nothing where an id is given, so that a repeat has the same content. */
	readonly time?: Date;
	/** Gives the wait up. An event that was sent already may still be stored. */
	readonly signal?: AbortSignal;
}

/** One event of `emitBatch`. */
export interface EventDraft extends Omit<EmitOptions, "signal"> {
	readonly type: string;
	readonly data?: Data;
}

export interface StreamOptions {
	/** Where to begin. Default `new`. */
	readonly start?: EventStart;
	/** A CEL expression over `event`; only events for which it is true arrive. */
	readonly filter?: string;
	/** -100 to 100; higher is served first. Default 0. */
	readonly priority?: number;
	/** Ends after so many events. */
	readonly limit?: number;
	/** Ends with IDLE_TIMEOUT where nothing arrives for so many milliseconds. */
	readonly idleTimeout?: number;
	readonly signal?: AbortSignal;
}

export type SubscribeOptions<T = Data> = Omit<StreamOptions, "signal"> & SubscriptionHooks<T>;

export interface OnceOptions extends Pick<StreamOptions, "start" | "filter" | "signal"> {
	/** Milliseconds to wait; then the promise rejects with IDLE_TIMEOUT. Default: no bound. */
	readonly timeout?: number;
}

export interface ReplayOptions extends Pick<StreamOptions, "filter" | "signal"> {
	/** Where to begin. Default `everything`. */
	readonly from?: EventStart;
}

export interface ListOptions {
	/** Only events of this plugin. */
	readonly source?: string;
	/** Only events stored at this time or later. */
	readonly startTime?: Date;
	/** Only events stored before this time. */
	readonly endTime?: Date;
	/** Default `oldest-first`. */
	readonly order?: "oldest-first" | "newest-first";
	/** Events in one call, at most 1,000. Default 100. */
	readonly pageSize?: number;
	readonly signal?: AbortSignal;
}

/** One pattern or several. `*` stands for one token, `**` in last place for any number. */
export type Patterns = string | readonly string[];

/** Publishing and subscribing. */
export class Events {
	readonly #context: ClientContext;
	readonly #client: Client<typeof EventService>;
	readonly #sink: EmitSink;
	readonly #encoder = new EventEncoder();
	readonly #admission = new Admission(MAX_UNACKNOWLEDGED, MAX_UNACKNOWLEDGED_BYTES);

	constructor(context: ClientContext) {
		this.#context = context;
		this.#client = createClient(EventService, context.transport);
		this.#sink = context.bidi ? new EmitChannel(context) : new EmitCalls(context);
	}

	/**
	 * Publishes one event; resolves once it is stored. Events are stored in the order of the calls. While the connection is
	 * lost the promise waits, and the event is stored once whatever happens in between; OUTCOME_UNKNOWN where the loss
	 * outlasts the hub's memory of ids. Waits for a place while 16,384 events are on their way.
	 */
	emit(type: string, data?: Data, options?: EmitOptions): Promise<EmitResult> {
		const signal = options?.signal;
		if (signal?.aborted) return Promise.reject(cancelled(signal));
		try {
			const { ids, clock } = this.#context;
			const own = options?.id === undefined;
			const id = options?.id ?? ids.next();
			const time = options?.time?.getTime() ?? (own ? clock.now() : undefined);
			const event = this.#encoder.encode(id, type, time, data, options);
			const pending = new PendingEmit({ id, own, event, admission: this.#admission, sink: this.#sink, signal });
			pending.start();
			return pending.promise;
		} catch (error) {
			return Promise.reject(error);
		}
	}

	/** Publishes several events, in order. Each entry has its own fate, as `Promise.allSettled` gives it. */
	emitBatch(drafts: readonly EventDraft[]): Promise<PromiseSettledResult<EmitResult>[]> {
		return Promise.allSettled(drafts.map((draft) => this.emit(draft.type, draft.data, draft)));
	}

	/**
	 * Calls the handler for each event that matches, one after the other. Resolves once the hub accepted the subscription:
	 * what is emitted from then on arrives. Rejects where the hub refuses.
	 */
	async on<T = Data>(
		patterns: Patterns,
		handler: EventHandler<T>,
		options: SubscribeOptions<T> = {},
	): Promise<EventSubscription<T>> {
		const subscription = new EventSubscription(this.#context, feedRequest(patterns, options), handler, options);
		await subscription.ready;
		return subscription;
	}

	/** The next event that matches. */
	async once<T = Data>(patterns: Patterns, options: OnceOptions = {}): Promise<HubEvent<T>> {
		const controller = new AbortController();
		const { timeout, signal } = options;
		const give = (reason: unknown) => () => controller.abort(reason);
		const timedOut = new HubClientError("IDLE_TIMEOUT", `no event came within ${timeout} ms`, {
			code: Code.DeadlineExceeded,
		});
		const timer = timeout === undefined ? undefined : this.#context.clock.after(timeout, give(timedOut));
		const end = () => controller.abort(cancelled(signal!));
		if (signal?.aborted) end();
		signal?.addEventListener("abort", end, { once: true });
		try {
			const request = feedRequest(patterns, { start: options.start, filter: options.filter, limit: 1 });
			for await (const event of streamEvents<T>(this.#context, request, controller.signal)) return event;
			throw controller.signal.aborted ? controller.signal.reason : this.#context.session.failure;
		} finally {
			timer?.cancel();
			signal?.removeEventListener("abort", end);
		}
	}

	/** Events as an async iterable, new ones as they come. Leaving the loop unsubscribes. */
	stream<T = Data>(patterns: Patterns, options: StreamOptions = {}): AsyncGenerator<HubEvent<T>, void, undefined> {
		return streamEvents<T>(this.#context, feedRequest(patterns, options), options.signal);
	}

	/** The stored events that match, then the end. */
	replay<T = Data>(patterns: Patterns, options: ReplayOptions = {}): AsyncGenerator<HubEvent<T>, void, undefined> {
		const { from = "everything", filter, signal } = options;
		const request = { ...feedRequest(patterns, { start: from, filter }), live: false };
		return streamEvents<T>(this.#context, request, signal);
	}

	/** The stored events that match, page by page, in either order. */
	async *list<T = Data>(patterns: Patterns, options: ListOptions = {}): AsyncGenerator<HubEvent<T>, void, undefined> {
		const { source, startTime, endTime, order, pageSize = 100, signal } = options;
		const request = {
			patterns: asList(patterns),
			source,
			startTime: startTime && toTimestamp(startTime.getTime()),
			endTime: endTime && toTimestamp(endTime.getTime()),
			order: order === "newest-first" ? ListOrder.NEWEST_FIRST : ListOrder.OLDEST_FIRST,
			pageSize,
		};
		for (let pageToken = ""; ; ) {
			const page = await this.#call((options) => this.#client.listEvents({ ...request, pageToken }, options), signal);
			for (const event of page.events) yield new HubEvent<T>(event, page.epoch, true);
			if (page.nextPageToken === "") return;
			pageToken = page.nextPageToken;
		}
	}

	/**
	 * A durable subscription of this plugin: the hub keeps its place and delivers each event to one of the instances that
	 * consume it, until it is acknowledged. With options it is created at the first `consume` where it is not there.
	 */
	durable<T = Data>(name: string, options?: DurableOptions): DurableEvents<T> {
		return new DurableEvents<T>(this.#context, name, options);
	}

	/** This plugin's open subscriptions, as the hub sees them: lag, deliveries, failures of the filter. */
	async *subscriptions(signal?: AbortSignal): AsyncGenerator<Subscription, void, undefined> {
		for (let pageToken = ""; ; ) {
			const page = await this.#call((options) => this.#client.listSubscriptions({ pageToken }, options), signal);
			yield* page.subscriptions;
			if (page.nextPageToken === "") return;
			pageToken = page.nextPageToken;
		}
	}

	async #call<R>(call: (options: { signal: AbortSignal; timeoutMs: number }) => Promise<R>, signal?: AbortSignal) {
		const { session, callTimeoutMs } = this.#context;
		const either = signal ? AbortSignal.any([signal, session.signal]) : session.signal;
		try {
			return await call({ signal: either, timeoutMs: callTimeoutMs });
		} catch (error) {
			if (session.signal.aborted) throw session.failure;
			throw toClientError(error, either);
		}
	}
}

function feedRequest(patterns: Patterns, options: StreamOptions): FeedRequest {
	const { start = "new", filter, priority, limit, idleTimeout } = options;
	return { patterns: asList(patterns), start, live: true, filter, priority, limit, idleTimeoutMs: idleTimeout };
}

function asList(patterns: Patterns): string[] {
	return typeof patterns === "string" ? [patterns] : [...patterns];
}
