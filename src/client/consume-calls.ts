import { create } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createAsyncIterable } from "@connectrpc/connect/protocol";
import { ReceiveEventsRequestSchema } from "#gen/qirvo/hub/v1/durable_subscriptions_pb.js";
import { EventService, type ReceiveEventsResponse } from "#gen/qirvo/hub/v1/event_service_pb.js";
import type { DeliverySettlement } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { type ConsumeStreamOptions, MAX_SETTLEMENTS } from "./consume-attach.ts";
import { Consuming } from "./consuming.ts";
import { HubClientError, toClientError } from "./errors.ts";
import { endedEarly, readFrames } from "./read-frames.ts";

/**
 * One `ReceiveEvents` stream, until it ends, for peers that cannot stream up: outcomes that came together go in one call at
 * a time. Resolves once it was stopped.
 */
export async function consumeByCalls(options: ConsumeStreamOptions): Promise<void> {
	const { context, name, maxInFlight, connection, signal, stopping } = options;
	const { transport, clock, logger, callTimeoutMs } = context;
	const client = createClient(EventService, transport);
	const ending = new AbortController();
	const either = AbortSignal.any([signal, ending.signal]);
	let sessionId = "";
	let settlements: DeliverySettlement[] = [];
	let settling: Promise<void> | undefined;
	const settle = async () => {
		while (settlements.length > 0 && !either.aborted) {
			const deliveries = settlements.splice(0, MAX_SETTLEMENTS);
			await client
				.acknowledgeEvents({ sessionId, deliveries }, { signal: either, timeoutMs: callTimeoutMs })
				.catch((error: unknown) => logger.debug({ err: toClientError(error) }, "deliveries could not be settled"));
		}
		settling = undefined;
	};
	const consuming = new Consuming({
		handler: options.handler,
		epoch: connection.info.eventEpoch,
		onError: options.onError,
		settle(settlement) {
			settlements.push(settlement);
			settling ??= settle();
		},
	});
	const stop = async () => {
		await consuming.idle();
		await settling;
		ending.abort();
	};
	const onStop = () => void stop();
	const onFrame = ({ frame }: ReceiveEventsResponse) => {
		if (frame.case === "batch") {
			// What comes after a stop is delivered to others.
			if (!stopping.aborted) for (const delivery of frame.value.deliveries) consuming.start(delivery);
		} else if (frame.case === "lost") options.onLost(frame.value.lost);
		else if (frame.case === "ready") {
			sessionId = frame.value.id;
			options.onReady();
		}
	};
	const input = createAsyncIterable([create(ReceiveEventsRequestSchema, { name, maxInFlight })]);
	stopping.addEventListener("abort", onStop, { once: true });
	if (stopping.aborted) onStop();
	try {
		const method = EventService.method.receiveEvents;
		await readFrames({ transport, method, input, clock, signal: either, onFrame });
		if (!ending.signal.aborted) throw endedEarly("ReceiveEvents");
	} catch (error) {
		if (!ending.signal.aborted) throw error;
	} finally {
		stopping.removeEventListener("abort", onStop);
		settlements = [];
		consuming.end(new HubClientError("CONNECTION_LOST", "the stream that the event came through is lost"));
	}
}
