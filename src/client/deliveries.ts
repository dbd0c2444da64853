import { create } from "@bufbuild/protobuf";
import {
	type Delivery,
	type DeliveryReply,
	DeliveryReplySchema,
	type DeliverySettlement,
	DeliverySettlementSchema,
	type Message,
	type ReplyContent,
	ReplyContentSchema,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { Clock, Timer } from "../clock/clock.ts";
import { parsePattern } from "../subjects/pattern.ts";
import { PatternTrie } from "../subjects/pattern-trie.ts";
import { toDuration } from "./durations.ts";
import { HandlerError } from "./errors.ts";
import { IncomingMessage } from "./incoming-message.ts";
import type { ClientLogger } from "./logger.ts";
import { type Data, toPayload } from "./payload.ts";

/** What a handler may know of its delivery beside the message. */
export interface HandlerContext {
	/** Aborts when the sender no longer waits, or the session that the delivery came through is lost. */
	readonly signal: AbortSignal;
}

/** Returns, or promises, the data of the reply. What it throws is the reply's error. */
export type MessageHandler<T = Data, R = Data> = (
	message: IncomingMessage<T>,
	context: HandlerContext,
) => R | Promise<R>;

/** Where the outcomes of a session's deliveries go. */
export interface SettlementPort {
	settle(settlement: DeliverySettlement): void;
	reply(reply: DeliveryReply): void;
}

/** Most handlers never look at the signal, so it is made on demand. */
class Running implements HandlerContext {
	/** Its sender waits, so that the hub does not. */
	readonly isRequest: boolean;
	/** It was there already when signs of life were last given. */
	isOld = false;
	#controller: AbortController | undefined;
	#reason: unknown;
	#aborted = false;

	constructor(isRequest: boolean) {
		this.isRequest = isRequest;
	}

	get signal(): AbortSignal {
		this.#controller ??= new AbortController();
		if (this.#aborted) this.#controller.abort(this.#reason);
		return this.#controller.signal;
	}

	abort(reason: unknown): void {
		this.#aborted = true;
		this.#reason = reason;
		this.#controller?.abort(reason);
	}
}

export interface DeliveriesOptions {
	readonly logger: ClientLogger;
	readonly clock: Clock;
	/** How long the hub waits for a sign of life from a handler of a durable message, in milliseconds. */
	readonly ackWaitMs: number;
}

/** Signs of life in one ack wait: two may be lost or late. */
const SIGNS_OF_LIFE = 3;

const MAX_TYPE_LENGTH = 128;
const MAX_MESSAGE_LENGTH = 1_000;

/**
 * Passes deliveries to handlers and outcomes to the session they came through. What runs at once is bounded by the credit
 * that the hub was given.
 */
export class Deliveries {
	readonly #handlers = new PatternTrie<MessageHandler>();
	readonly #options: DeliveriesOptions;

	constructor(options: DeliveriesOptions) {
		this.#options = options;
	}

	/** Handlers there are. */
	get size(): number {
		return this.#handlers.size;
	}

	/** Throws on a pattern that is none. */
	add(pattern: string, handler: MessageHandler): Disposable {
		return this.#handlers.add(parsePattern(pattern, "pattern"), handler);
	}

	/** The deliveries of one session. */
	open(port: SettlementPort): DeliverySession {
		return new DeliverySession(this.#handlers, port, this.#options);
	}
}

/** What came through one session and is being worked on. */
class DeliverySession {
	readonly #handlers: PatternTrie<MessageHandler>;
	readonly #port: SettlementPort;
	readonly #logger: ClientLogger;
	readonly #running = new Map<string, Running>();
	readonly #signsOfLife: Timer;

	constructor(handlers: PatternTrie<MessageHandler>, port: SettlementPort, options: DeliveriesOptions) {
		const { logger, clock, ackWaitMs } = options;
		this.#handlers = handlers;
		this.#port = port;
		this.#logger = logger;
		this.#signsOfLife = clock.every(ackWaitMs / SIGNS_OF_LIFE, () => this.#showLife());
	}

	/** Starts the handler. Never throws; the hub sends no delivery without a message. */
	start(delivery: Delivery): void {
		void this.#run(delivery as Delivery & { message: Message });
	}

	/** The sender no longer waits. */
	cancel(deliveryId: string, reason: unknown): void {
		this.#running.get(deliveryId)?.abort(reason);
		this.#running.delete(deliveryId);
	}

	/** The session is lost: outcomes have nowhere to go. */
	end(reason: unknown): void {
		this.#signsOfLife.cancel();
		for (const running of this.#running.values()) running.abort(reason);
		this.#running.clear();
	}

	/** What is worked on since the last time is not to be delivered to another instance. */
	#showLife(): void {
		for (const [deliveryId, running] of this.#running) {
			if (running.isRequest) continue;
			if (running.isOld) this.#settle(deliveryId, { case: "inProgress", value: true });
			running.isOld = true;
		}
	}

	async #run(delivery: Delivery & { message: Message }): Promise<void> {
		const { deliveryId, message } = delivery;
		const handler = this.#handlers.match(message.type.replaceAll(":", "."))[0];
		if (handler === undefined) return this.#refuse(delivery);
		const running = new Running(message.requiresResponse);
		this.#running.set(deliveryId, running);
		let result: Data;
		try {
			result = handler(new IncomingMessage(delivery), running);
			if (typeof result?.then === "function") result = await result;
			result = message.requiresResponse ? succeeded(result) : undefined;
		} catch (error) {
			if (this.#running.delete(deliveryId)) this.#fail(delivery, error);
			return;
		}
		if (!this.#running.delete(deliveryId)) return;
		if (message.requiresResponse) this.#reply(delivery, result);
		else this.#settle(delivery.deliveryId, { case: "acknowledge", value: true });
	}

	#refuse(delivery: Delivery & { message: Message }): void {
		const { type } = delivery.message;
		if (delivery.message.requiresResponse) {
			this.#reply(delivery, failed(new HandlerError("no_handler", `no handler for ${type}`, { nonRetryable: true })));
		} else {
			this.#settle(delivery.deliveryId, { case: "terminate", value: reason(`no handler for ${type}`) });
		}
	}

	#fail(delivery: Delivery & { message: Message }, error: unknown): void {
		const { type, requiresResponse } = delivery.message;
		this.#logger.debug({ err: error, type }, "a message handler failed");
		const { nonRetryable, retryAfterMs } = error instanceof HandlerError ? error.options : {};
		const delay = retryAfterMs === undefined ? undefined : toDuration(retryAfterMs);
		if (requiresResponse) this.#reply(delivery, failed(error));
		else if (nonRetryable) this.#settle(delivery.deliveryId, { case: "terminate", value: reason(textOf(error)) });
		else
			this.#settle(delivery.deliveryId, {
				case: "negative",
				value: { $typeName: "qirvo.hub.v1.NegativeAcknowledgement", delay },
			});
	}

	#settle(deliveryId: string, outcome: DeliverySettlement["outcome"]): void {
		const settlement = create(DeliverySettlementSchema);
		settlement.deliveryId = deliveryId;
		settlement.outcome = outcome;
		this.#port.settle(settlement);
	}

	#reply({ deliveryId }: Delivery, content: ReplyContent): void {
		const reply = create(DeliveryReplySchema);
		reply.deliveryId = deliveryId;
		reply.reply = content;
		this.#port.reply(reply);
	}
}

function succeeded(data: Data): ReplyContent {
	const content = create(ReplyContentSchema);
	content.success = true;
	content.data = toPayload(data);
	return content;
}

function failed(error: unknown): ReplyContent {
	const { nonRetryable, retryAfterMs, details } = error instanceof HandlerError ? error.options : {};
	const type = error instanceof HandlerError ? error.type : error instanceof Error ? error.name : "Error";
	return create(ReplyContentSchema, {
		success: false,
		error: {
			type: type.slice(0, MAX_TYPE_LENGTH),
			message: textOf(error),
			nonRetryable,
			retryAfter: retryAfterMs === undefined ? undefined : toDuration(retryAfterMs),
			details: toPayload(details),
		},
	});
}

function reason(text: string) {
	return { $typeName: "qirvo.hub.v1.Termination" as const, reason: text.slice(0, MAX_TYPE_LENGTH) };
}

function textOf(error: unknown): string {
	return (error instanceof Error ? error.message : String(error)).slice(0, MAX_MESSAGE_LENGTH);
}
