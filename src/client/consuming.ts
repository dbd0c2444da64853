import { create } from "@bufbuild/protobuf";
import type { EventDelivery } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { type DeliverySettlement, DeliverySettlementSchema } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { toDuration } from "./durations.ts";
import { HandlerError } from "./errors.ts";
import { HubEvent } from "./hub-event.ts";
import type { Data } from "./payload.ts";

/** What a handler may know of its delivery beside the event. */
export interface ConsumeContext {
	/** 1 for the first delivery of the event. */
	readonly attempt: number;
	/** Aborts when the stream that the delivery came through is lost: the event is then delivered again. */
	readonly signal: AbortSignal;
}

/**
 * Acknowledges the event by returning, or by the promise that it returns. What it throws asks for another delivery; a
 * `HandlerError` says when (`retryAfterMs`) or that there should be none (`nonRetryable`).
 */
export type ConsumeHandler<T = Data> = (event: HubEvent<T>, context: ConsumeContext) => unknown;

const MAX_REASON_LENGTH = 128;

/** The deliveries of one stream that are being worked on. */
export class Consuming {
	readonly #handler: ConsumeHandler;
	readonly #epoch: string;
	readonly #settle: (settlement: DeliverySettlement) => void;
	readonly #onError: (error: unknown, event: HubEvent) => void;
	readonly #lost = new AbortController();
	#running = 0;
	#idle: (() => void) | undefined;

	/** `settle` takes what became of each delivery. */
	constructor(options: {
		readonly handler: ConsumeHandler;
		readonly epoch: string;
		readonly settle: (settlement: DeliverySettlement) => void;
		readonly onError: (error: unknown, event: HubEvent) => void;
	}) {
		this.#handler = options.handler;
		this.#epoch = options.epoch;
		this.#settle = options.settle;
		this.#onError = options.onError;
	}

	/** Starts the handler. Never throws. */
	start(delivery: EventDelivery): void {
		this.#running++;
		void this.#run(delivery);
	}

	/** Resolves when no handler runs. */
	async idle(): Promise<void> {
		while (this.#running > 0) {
			await new Promise<void>((resolve) => {
				this.#idle = resolve;
			});
		}
	}

	/** The stream is lost: outcomes have nowhere to go. */
	end(reason: unknown): void {
		this.#lost.abort(reason);
	}

	async #run({ deliveryId, event: message, attempt }: EventDelivery): Promise<void> {
		const event = new HubEvent(message!, this.#epoch, true);
		let outcome: DeliverySettlement["outcome"] = { case: "acknowledge", value: true };
		try {
			await this.#handler(event, { attempt, signal: this.#lost.signal });
		} catch (error) {
			outcome = refusal(error);
			this.#onError(error, event);
		}
		this.#running--;
		if (!this.#lost.signal.aborted) {
			const settlement = create(DeliverySettlementSchema);
			settlement.deliveryId = deliveryId;
			settlement.outcome = outcome;
			this.#settle(settlement);
		}
		if (this.#running === 0) this.#idle?.();
	}
}

function refusal(error: unknown): DeliverySettlement["outcome"] {
	const { nonRetryable, retryAfterMs } = error instanceof HandlerError ? error.options : {};
	if (nonRetryable) {
		const reason = (error instanceof Error ? error.message : String(error)).slice(0, MAX_REASON_LENGTH);
		return { case: "terminate", value: { $typeName: "qirvo.hub.v1.Termination", reason } };
	}
	const delay = retryAfterMs === undefined ? undefined : toDuration(retryAfterMs);
	return { case: "negative", value: { $typeName: "qirvo.hub.v1.NegativeAcknowledgement", delay } };
}
