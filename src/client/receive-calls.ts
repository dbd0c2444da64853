import { create } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createAsyncIterable } from "@connectrpc/connect/protocol";
import {
	type DeliveryReply,
	type DeliverySettlement,
	MessagingService,
	ReceiveRequestSchema,
	type ReceiveResponse,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { toClientError } from "./errors.ts";
import { endedEarly, readFrames } from "./read-frames.ts";
import { type ReceiveOptions, senderGone } from "./receive-attach.ts";

const MAX_SETTLEMENTS = 1_000;

/**
 * One `Receive` session, until it ends, for peers that cannot stream up: a call for each reply, and one at a time for the
 * settlements that came together meanwhile.
 */
export async function receive(options: ReceiveOptions): Promise<void> {
	const { context, deliveries, maxInFlight, policy, connection, signal } = options;
	const { transport, clock, logger, callTimeoutMs } = context;
	const client = createClient(MessagingService, transport);
	const callOptions = { signal, timeoutMs: callTimeoutMs };
	let sessionId = "";
	let settlements: DeliverySettlement[] = [];
	let settling = false;
	const late = (error: unknown) => logger.debug({ err: toClientError(error) }, "a delivery could not be settled");
	const settle = async () => {
		settling = true;
		while (settlements.length > 0 && !signal.aborted) {
			const batch = settlements.splice(0, MAX_SETTLEMENTS);
			await client.acknowledge({ sessionId, deliveries: batch }, callOptions).catch(late);
		}
		settling = false;
	};
	const session = deliveries.open({
		settle(settlement) {
			settlements.push(settlement);
			if (!settling) void settle();
		},
		reply(reply: DeliveryReply) {
			client.reply({ sessionId, reply }, callOptions).catch(late);
		},
	});
	const onFrame = ({ frame }: ReceiveResponse) => {
		if (frame.case === "batch") for (const delivery of frame.value.deliveries) session.start(delivery);
		else if (frame.case === "cancelled") session.cancel(frame.value.deliveryId, senderGone(frame.value.reason));
		else if (frame.case === "ready") {
			sessionId = frame.value.id;
			options.onReady();
		}
	};
	const request = create(ReceiveRequestSchema, { instanceId: connection.instanceId, maxInFlight, policy });
	const input = createAsyncIterable([request]);
	try {
		await readFrames({ transport, method: MessagingService.method.receive, input, clock, signal, onFrame });
		throw endedEarly("Receive");
	} finally {
		settlements = [];
		session.end(toClientError(signal.reason ?? endedEarly("Receive")));
	}
}
