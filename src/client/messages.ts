import type { Timestamp } from "@bufbuild/protobuf/wkt";
import {
	type Address,
	Disposition,
	type Message,
	Priority,
	type RequestResponse,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { Admission } from "./admission.ts";
import type { ClientContext } from "./client-context.ts";
import type { MessageHandler } from "./deliveries.ts";
import { toDuration, toTimestamp } from "./durations.ts";
import { cancelled, RemoteError } from "./errors.ts";
import type { MessagePriority } from "./incoming-message.ts";
import { type InterceptHandler, type Interception, type InterceptOptions, startInterceptor } from "./interceptor.ts";
import { type Data, type PayloadOptions, toPayload } from "./payload.ts";
import { type HandlerRegistration, Receiver, type ReceivingOptions } from "./receiver.ts";
import { Reply } from "./reply.ts";
import { type ManyReply, type ManySummary, requestMany } from "./request-many.ts";
import { SendCalls } from "./send-calls.ts";
import { SendChannel } from "./send-channel.ts";
import type { Accepted, SendSink } from "./send-sink.ts";
import { encodeSend } from "./send-wire.ts";
import { type Fate, Submission, type SubmissionWay } from "./submission.ts";
import {
	type BroadcastFilter,
	type FanOutOutcome,
	type TopicListOptions,
	type TopicSubscription,
	Topics,
} from "./topics.ts";

/** Messages and requests without an answer before the next one waits. */
const MAX_UNANSWERED = 16_384;
const MAX_UNANSWERED_BYTES = 32 * 1024 * 1024;
const DEFAULT_REQUEST_TIMEOUT_MS = 30_000;

/** Of all messages without any: they are kept until they are answered. */
const NO_ATTRIBUTES: Message["attributes"] = Object.freeze({});

/** A plugin's id, the best provider of a capability, or a route. */
export type Recipient =
	| string
	| { readonly plugin: string }
	| { readonly capability: string }
	| { readonly alias: string };

interface MessageOptions extends PayloadOptions {
	/** Names the message, 1-128 bytes. Default: a new one. */
	readonly id?: string;
	readonly attributes?: Readonly<Record<string, string>>;
	/** Default `normal`. */
	readonly priority?: MessagePriority;
	/** Messages of one sender and key arrive in order. */
	readonly orderingKey?: string;
	/** Handling it twice does no harm, so that it may be sent again after a loss. Default false. */
	readonly idempotent?: boolean;
	/** Gives the wait up; the handler of a request is told. */
	readonly signal?: AbortSignal;
}

export interface SendOptions extends MessageOptions {
	/** `durable`: stored before the answer. Default: durable where the hub offers it. */
	readonly durability?: "durable" | "transient";
	/** Not delivered after so many milliseconds. */
	readonly ttl?: number;
	/** Not delivered before, at most 366 days ahead. Durable messages only. */
	readonly deliverAt?: Date;
}

export interface RequestOptions extends MessageOptions {
	/** How long to wait for the reply, in milliseconds, at most 1 hour. Default 30 s. */
	readonly timeout?: number;
}

export interface PublishOptions extends SendOptions {
	/** What handlers are found by. Default: the topic. */
	readonly type?: string;
}

export interface BroadcastOptions extends PayloadOptions {
	/** Names the broadcast, 1-128 bytes. Default: a new one. */
	readonly id?: string;
	readonly attributes?: Readonly<Record<string, string>>;
	/** For whom. Default: every plugin but this one. */
	readonly filter?: BroadcastFilter;
	readonly signal?: AbortSignal;
}

export interface RequestManyOptions extends RequestOptions {
	/** Ends the wait when no reply came for so many milliseconds. */
	readonly stallTimeout?: number;
	/** Ends the wait after so many replies. */
	readonly maxReplies?: number;
}

/** A message is accepted. */
export interface SendOutcome {
	readonly id: string;
	/** Handed to an instance of the recipient, or waiting for one. */
	readonly disposition: "delivered" | "queued";
	/** Whether the id was sent before. */
	readonly duplicate: boolean;
}

/** Direct messages and requests. */
export class Messages {
	readonly #context: ClientContext;
	readonly #receiver: Receiver;
	readonly #topics: Topics;
	readonly #way: SubmissionWay;
	#nextEntry = 1;
	#lastTo: Address | undefined;
	#lastTime: { readonly ms: number; readonly timestamp: Timestamp } | undefined;

	constructor(context: ClientContext, receiving: ReceivingOptions) {
		this.#context = context;
		const sink: SendSink = context.bidi ? new SendChannel(context) : new SendCalls(context);
		this.#way = { clock: context.clock, admission: new Admission(MAX_UNANSWERED, MAX_UNANSWERED_BYTES), sink };
		this.#receiver = new Receiver(context, receiving);
		this.#topics = new Topics(context);
	}

	/** Sends one message; resolves once the hub has accepted it. */
	send(to: Recipient, type: string, data?: Data, options: SendOptions = {}): Promise<SendOutcome> {
		const { durability } = options;
		const fate = durability === undefined ? SENT : durability === "durable" ? SENT_DURABLE : SENT_TRANSIENT;
		// One promise, and no more: the executor's errors are the promise's.
		return this.#submit<SendOutcome>(to, options.signal, fate, () => {
			const message = this.#message(type, data, options);
			if (options.ttl !== undefined) message.ttl = toDuration(options.ttl);
			if (options.deliverAt !== undefined) message.deliverAt = toTimestamp(options.deliverAt.getTime());
			return message;
		});
	}

	/**
	 * Sends a message and waits for the reply. Rejects with a `RemoteError` where the handler failed, and with a
	 * `HubClientError` where the request did not reach one, or no reply came in time, and with a RangeError where the timeout
	 * is no time.
	 */
	request<T = Data>(to: Recipient, type: string, data?: Data, options: RequestOptions = {}): Promise<Reply<T>> {
		const { timeout = DEFAULT_REQUEST_TIMEOUT_MS, signal } = options;
		const fate = { timeoutMs: timeout, answered: replyOf<T> };
		return this.#submit<Reply<T>>(to, signal, fate, () => this.#message(type, data, options));
	}

	/**
	 * Asks several plugins, or the subscribers of a topic. Yields what each came to, as it comes, and returns a summary.
	 * Leaving the loop gives the others up. Throws where nobody can be asked.
	 *
	 * ```ts
	 * for await (const { source, reply, error } of messages.requestMany(["lamp", "radio"], "status")) ...
	 * ```
	 */
	requestMany<T = Data>(
		to: readonly Recipient[] | { readonly topic: string },
		type: string,
		data?: Data,
		options: RequestManyOptions = {},
	): AsyncGenerator<ManyReply<T>, ManySummary, undefined> {
		const { timeout = DEFAULT_REQUEST_TIMEOUT_MS, stallTimeout, maxReplies = 0, signal } = options;
		return requestMany<T>(this.#context, {
			to: "topic" in to ? [] : to.map(address),
			topic: "topic" in to ? to.topic : "",
			message: this.#message(type, data, options),
			timeoutMs: timeout,
			stallMs: stallTimeout,
			maxReplies,
			signal,
		});
	}

	/**
	 * Subscribes this plugin to topics, until it unsubscribes or is unregistered, whether or not it is connected. What is
	 * published comes to the handlers of its type, with the `topic` that it was published to. False: it was subscribed already.
	 */
	subscribeTopic(pattern: string, options: { readonly signal?: AbortSignal } = {}): Promise<boolean> {
		return this.#topics.subscribe(pattern, options.signal);
	}

	/** False: it was not subscribed. */
	unsubscribeTopic(pattern: string, options: { readonly signal?: AbortSignal } = {}): Promise<boolean> {
		return this.#topics.unsubscribe(pattern, options.signal);
	}

	/** The subscriptions of this plugin; for an operator those of all. Asks for a page at a time. */
	topicSubscriptions(options: TopicListOptions = {}): AsyncGenerator<TopicSubscription, void, undefined> {
		return this.#topics.list(options);
	}

	/** Sends a message to every subscriber of the topic but this plugin; resolves once it is in their mailboxes. */
	async publish(topic: string, data?: Data, options: PublishOptions = {}): Promise<FanOutOutcome> {
		const message = this.#message(options.type ?? topic, data, options);
		if (options.ttl !== undefined) message.ttl = toDuration(options.ttl);
		if (options.deliverAt !== undefined) message.deliverAt = toTimestamp(options.deliverAt.getTime());
		const durable = options.durability === undefined ? undefined : options.durability === "durable";
		return await this.#topics.publish(topic, message, durable, options.signal);
	}

	/** Tells something to every attached plugin that the filter selects but this one. */
	async broadcast(event: string, data?: Data, options: BroadcastOptions = {}): Promise<FanOutOutcome> {
		return await this.#topics.broadcast(this.#message(event, data, options), options.filter, options.signal);
	}

	/**
	 * Receives the messages whose type matches the pattern. A type that is named exactly goes before one with wildcards;
	 * else the first handler wins. What the handler returns is the reply; what it throws, the reply's error. A durable message
	 * is acknowledged when its handler is done, however long that takes; where it throws, the message is delivered again, or,
	 * after a `HandlerError` that is `nonRetryable`, becomes a dead letter.
	 */
	handle<T = Data, R = Data>(pattern: string, handler: MessageHandler<T, R>): HandlerRegistration {
		return this.#receiver.handle(pattern, handler as MessageHandler);
	}

	/**
	 * Looks at messages and requests of other plugins before they are accepted: each passes, is changed, answered or refused. For
	 * plugins with the grant `intercept`, over a transport that streams both ways.
	 */
	intercept<T = Data>(options: InterceptOptions, handler: InterceptHandler<T>): Interception {
		return startInterceptor(this.#context, options, handler as InterceptHandler);
	}

	#submit<R>(to: Recipient, signal: AbortSignal | undefined, fate: Fate<R>, make: () => Message): Promise<R> {
		return new Promise<R>((resolve, reject) => {
			const message = make();
			if (signal?.aborted) throw cancelled(signal);
			requireTime(fate.timeoutMs);
			const entryId = this.#nextEntry++;
			const range = encodeSend(entryId, this.#address(to), message, fate.timeoutMs !== undefined);
			const content = { entryId, range, idempotent: message.idempotent, fate, signal };
			new Submission(this.#way, content, resolve, reject).start();
		});
	}

	/** Mostly that of the message before. */
	#address(to: Recipient): Address {
		if (typeof to !== "string") return address(to);
		if (this.#lastTo?.target.value !== to) this.#lastTo = address(to);
		return this.#lastTo;
	}

	/** Messages of one millisecond have one object. */
	#now(): Timestamp {
		const now = this.#context.clock.now();
		if (this.#lastTime?.ms !== now) this.#lastTime = { ms: now, timestamp: toTimestamp(now) };
		return this.#lastTime.timestamp;
	}

	#message(type: string, data: Data, options: MessageOptions): Message {
		// As `create` makes it, which costs more than all else here.
		const message: Message = {
			$typeName: "qirvo.hub.v1.Message",
			id: options.id ?? this.#context.ids.next(),
			type,
			idempotent: options.idempotent ?? false,
			orderingKey: options.orderingKey ?? "",
			attributes: options.attributes === undefined ? NO_ATTRIBUTES : { ...options.attributes },
			payload: toPayload(data, options),
			source: "",
			recipient: "",
			requiresResponse: false,
			attempt: 0,
			topic: "",
		};
		// A repeat under an id of the caller's must have the same content.
		if (options.id === undefined) message.time = this.#now();
		if (options.priority !== undefined) message.priority = PRIORITIES[options.priority];
		return message;
	}
}

const PRIORITIES: Readonly<Record<MessagePriority, Priority>> = {
	low: Priority.LOW,
	normal: Priority.NORMAL,
	high: Priority.HIGH,
};

/** What becomes of a message, by what its sender says of its durability. */
const SENT: Fate<SendOutcome> = { accepted: sendOutcome };
const SENT_DURABLE: Fate<SendOutcome> = { durable: true, accepted: sendOutcome };
const SENT_TRANSIENT: Fate<SendOutcome> = { durable: false, accepted: sendOutcome };

/** Here, as a request that cannot be written would take those down that go with it. Throws a RangeError. */
function requireTime(timeoutMs: number | undefined): void {
	if (timeoutMs === undefined || Number.isSafeInteger(Math.ceil(timeoutMs))) return;
	throw new RangeError("the timeout of a request is not a number of milliseconds");
}

function sendOutcome({ id, disposition, duplicate }: Accepted): SendOutcome {
	return { id, disposition: disposition === Disposition.DELIVERED ? "delivered" : "queued", duplicate };
}

function replyOf<T>(response: RequestResponse): Reply<T> {
	if (response.reply?.success) return new Reply<T>(response);
	throw new RemoteError(response.reply?.error, response.source);
}

function address(to: Recipient): Address {
	return { $typeName: "qirvo.hub.v1.Address", target: target(to) };
}

function target(to: Recipient): Address["target"] {
	if (typeof to === "string") return { case: "pluginId", value: to };
	if ("plugin" in to) return { case: "pluginId", value: to.plugin };
	if ("capability" in to) return { case: "capability", value: to.capability };
	return { case: "alias", value: to.alias };
}
