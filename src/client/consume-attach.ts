import { create } from "@bufbuild/protobuf";
import { type ConsumeRequest, ConsumeRequestSchema } from "#gen/qirvo/hub/v1/durable_subscriptions_pb.js";
import { type ConsumeResponse, EventService } from "#gen/qirvo/hub/v1/event_service_pb.js";
import type { DeliverySettlement } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { ClientContext } from "./client-context.ts";
import { type ConsumeHandler, Consuming } from "./consuming.ts";
import { fromEntryError, HubClientError } from "./errors.ts";
import type { HubEvent } from "./hub-event.ts";
import { endedEarly, readFrames } from "./read-frames.ts";
import type { Connection } from "./session-loop.ts";
import { WakeUp } from "./wake-up.ts";

/** Events that the hub no longer had, at most. */
export type LostListener = (lost: bigint) => void;

export interface ConsumeStreamOptions {
	readonly context: ClientContext;
	readonly name: string;
	readonly handler: ConsumeHandler;
	/** Deliveries that may be worked on at once. */
	readonly maxInFlight: number;
	readonly onReady: () => void;
	readonly onError: (error: unknown, event: HubEvent) => void;
	readonly onLost: LostListener;
	readonly connection: Connection;
	/** Ends the stream at once. */
	readonly signal: AbortSignal;
	/** Ends it once the handlers that run are done and their outcomes confirmed. */
	readonly stopping: AbortSignal;
}

export const MAX_SETTLEMENTS = 1_000;

/** One `Consume` stream, until it ends; resolves once it was stopped. */
export async function consume(options: ConsumeStreamOptions): Promise<void> {
	const { context, name, maxInFlight, connection, signal, stopping } = options;
	const wake = new WakeUp();
	const settlements: DeliverySettlement[] = [];
	let pause = false;
	const consuming = new Consuming({
		handler: options.handler,
		epoch: connection.info.eventEpoch,
		onError: options.onError,
		settle(settlement) {
			settlements.push(settlement);
			wake.notify();
		},
	});
	const stop = () => {
		pause = true;
		wake.notify();
		void consuming.idle().then(() => wake.end());
	};
	async function* frames(): AsyncGenerator<ConsumeRequest, void, undefined> {
		yield create(ConsumeRequestSchema, { frame: { case: "open", value: { name, maxInFlight } } });
		for (let more = true; more; ) {
			more = await wake.wait(() => settlements.length > 0 || pause);
			if (pause) yield create(ConsumeRequestSchema, { frame: { case: "credit", value: { maxInFlight: 0 } } });
			pause = false;
			while (settlements.length > 0) {
				const deliveries = settlements.splice(0, MAX_SETTLEMENTS);
				yield create(ConsumeRequestSchema, { frame: { case: "settlement", value: { deliveries } } });
			}
		}
	}
	const onFrame = ({ frame }: ConsumeResponse) => {
		if (frame.case === "batch") {
			// What comes after a stop is delivered to others.
			if (!stopping.aborted) for (const delivery of frame.value.deliveries) consuming.start(delivery);
		} else if (frame.case === "ready") options.onReady();
		else if (frame.case === "lost") options.onLost(frame.value.lost);
		else if (frame.case === "failures") {
			for (const { deliveryId, error } of frame.value.failures) {
				context.logger.debug({ deliveryId, err: error && fromEntryError(error) }, "a delivery was settled too late");
			}
		}
	};
	const { transport, clock } = context;
	stopping.addEventListener("abort", stop, { once: true });
	if (stopping.aborted) stop();
	try {
		await readFrames({ transport, method: EventService.method.consume, input: frames(), clock, signal, onFrame });
		if (!stopping.aborted) throw endedEarly("Consume");
	} finally {
		stopping.removeEventListener("abort", stop);
		wake.end();
		consuming.end(new HubClientError("CONNECTION_LOST", "the stream that the event came through is lost"));
	}
}
