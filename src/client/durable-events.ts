import { create } from "@bufbuild/protobuf";
import { type Client, createClient } from "@connectrpc/connect";
import {
	DurableStartSchema,
	type DurableSubscription,
	DurableSubscriptionSchema,
} from "#gen/qirvo/hub/v1/durable_subscriptions_pb.js";
import { EventService } from "#gen/qirvo/hub/v1/event_service_pb.js";
import type { ClientContext } from "./client-context.ts";
import type { ConsumeHandler } from "./consuming.ts";
import { type ConsumeOptions, DurableConsumer } from "./durable-consumer.ts";
import { toDuration } from "./durations.ts";
import { HubClientError, toClientError } from "./errors.ts";
import { type EventStart, startMessage } from "./event-feed.ts";
import type { Data } from "./payload.ts";

/** A durable subscription as it is to be created. What is left out has the hub's default. */
export interface DurableOptions {
	/** One pattern or several. */
	readonly patterns: string | readonly string[];
	/** A CEL expression over `event`; only events for which it is true arrive. */
	readonly filter?: string;
	/** Where it starts when it is created. Default `new`. */
	readonly start?: EventStart;
	/** How long a handler may take, in milliseconds, before the event is delivered again. Default 30 s. */
	readonly ackWait?: number;
	/** Milliseconds before the second delivery, the third and so on; the last repeats. Default: at once. */
	readonly backoff?: readonly number[];
	/** Deliveries before an event becomes a dead letter. Default 5. */
	readonly maxDeliveries?: number;
	/** Deliveries that may be unsettled over all instances. Default 1,000. */
	readonly maxInFlight?: number;
}

/** One durable subscription of this plugin: its place in the log is kept by the hub, whoever consumes. */
export class DurableEvents<T = Data> {
	readonly name: string;
	readonly #context: ClientContext;
	readonly #client: Client<typeof EventService>;
	readonly #options: DurableOptions | undefined;

	constructor(context: ClientContext, name: string, options: DurableOptions | undefined) {
		this.name = name;
		this.#context = context;
		this.#client = createClient(EventService, context.transport);
		this.#options = options;
	}

	/**
	 * Calls the handler for the events that fall to this instance, several at a time, one of each ordering key. The
	 * subscription is created where it does not exist and options were given. Goes on by itself after a loss.
	 */
	consume(handler: ConsumeHandler<T>, options: ConsumeOptions<T> = {}): DurableConsumer<T> {
		return new DurableConsumer<T>(this.#context, this.name, () => this.#ensure(), handler, options);
	}

	/** What the hub keeps of it, and how far it is. */
	async info(): Promise<DurableSubscription> {
		const { name } = this;
		const answer = await this.#call((options) => this.#client.getDurableSubscription({ name }, options));
		return answer.subscription!;
	}

	/** Puts it at another place; whoever consumes goes on from there. */
	async reset(start: EventStart): Promise<DurableSubscription> {
		const request = { name: this.name, start: durableStart(start), requestId: this.#context.ids.next() };
		const answer = await this.#call((options) => this.#client.resetDurableSubscription(request, options));
		return answer.subscription!;
	}

	/** Deletes it, with its place in the log. */
	async delete(): Promise<void> {
		const request = { name: this.name, requestId: this.#context.ids.next() };
		await this.#call((options) => this.#client.deleteDurableSubscription(request, options));
	}

	/** Creates it where it is not there. One of this name that is for other events is SUBSCRIPTION_EXISTS. */
	async #ensure(): Promise<void> {
		if (this.#options === undefined) return;
		const { patterns, filter, start, ackWait, backoff = [], maxDeliveries, maxInFlight } = this.#options;
		const subscription = create(DurableSubscriptionSchema, {
			name: this.name,
			patterns: typeof patterns === "string" ? [patterns] : [...patterns],
			filter,
			start: start === undefined ? undefined : durableStart(start),
			ackWait: ackWait === undefined ? undefined : toDuration(ackWait),
			backoff: backoff.map(toDuration),
			maxDeliveries,
			maxInFlight,
		});
		try {
			await this.#call((options) => this.#client.createDurableSubscription({ subscription }, options));
		} catch (error) {
			if (!(error instanceof HubClientError) || error.reason !== "SUBSCRIPTION_EXISTS") throw error;
			const known = await this.info();
			const isSame = known.filter === subscription.filter && sameSet(known.patterns, subscription.patterns);
			if (!isSame) throw error;
		}
	}

	async #call<R>(call: (options: { signal: AbortSignal; timeoutMs: number }) => Promise<R>): Promise<R> {
		const { session, callTimeoutMs } = this.#context;
		try {
			return await call({ signal: session.signal, timeoutMs: callTimeoutMs });
		} catch (error) {
			throw session.signal.aborted ? session.failure : toClientError(error, session.signal);
		}
	}
}

function durableStart(start: EventStart) {
	return create(DurableStartSchema, { from: startMessage(start).from });
}

function sameSet(one: readonly string[], other: readonly string[]): boolean {
	return JSON.stringify([...one].sort()) === JSON.stringify([...other].sort());
}
