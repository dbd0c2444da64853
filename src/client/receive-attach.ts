import { create } from "@bufbuild/protobuf";
import type { DeliveryPolicy } from "#gen/qirvo/hub/v1/delivery_policy_pb.js";
import {
	type AttachRequest,
	AttachRequestSchema,
	type AttachResponse,
	type DeliveryReply,
	type DeliverySettlement,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { ClientContext } from "./client-context.ts";
import type { Deliveries } from "./deliveries.ts";
import { fromEntryError, HubClientError } from "./errors.ts";
import { endedEarly, readFrames } from "./read-frames.ts";
import { leanAttach } from "./receive-wire.ts";
import type { Connection } from "./session-loop.ts";
import { WakeUp } from "./wake-up.ts";

export interface ReceiveOptions {
	readonly context: ClientContext;
	readonly deliveries: Deliveries;
	/** Deliveries that may be worked on at once. */
	readonly maxInFlight: number;
	readonly policy: DeliveryPolicy;
	readonly onReady: () => void;
	readonly connection: Connection;
	readonly signal: AbortSignal;
}

const MAX_SETTLEMENTS = 1_000;

/** One `Attach` session, until it ends. Settlements that wait when the transport can take more make one frame. */
export async function attach(options: ReceiveOptions): Promise<void> {
	const { context, deliveries, maxInFlight, policy, connection, signal } = options;
	const wake = new WakeUp();
	const settlements: DeliverySettlement[] = [];
	let replies: DeliveryReply[] = [];
	const session = deliveries.open({
		settle(settlement) {
			settlements.push(settlement);
			wake.notify();
		},
		reply(reply) {
			replies.push(reply);
			wake.notify();
		},
	});
	async function* frames(): AsyncGenerator<AttachRequest, void, undefined> {
		const open = { instanceId: connection.instanceId, maxInFlight, policy };
		yield create(AttachRequestSchema, { frame: { case: "open", value: open } });
		while (await wake.wait(() => settlements.length > 0 || replies.length > 0)) {
			const answers = replies;
			replies = [];
			for (const value of answers) {
				const request = create(AttachRequestSchema);
				request.frame = { case: "reply", value };
				yield request;
			}
			const settled = settlements.splice(0, MAX_SETTLEMENTS);
			if (settled.length === 0) continue;
			yield create(AttachRequestSchema, { frame: { case: "settlement", value: { deliveries: settled } } });
		}
	}
	const onFrame = ({ frame }: AttachResponse) => {
		if (frame.case === "batch") for (const delivery of frame.value.deliveries) session.start(delivery);
		else if (frame.case === "cancelled") session.cancel(frame.value.deliveryId, senderGone(frame.value.reason));
		else if (frame.case === "ready") options.onReady();
		else if (frame.case === "failures") {
			for (const { deliveryId, error } of frame.value.failures) {
				context.logger.debug({ deliveryId, err: error && fromEntryError(error) }, "a delivery was settled too late");
			}
		}
	};
	const { transport, clock } = context;
	try {
		await readFrames({ transport, method: leanAttach, input: frames(), clock, signal, onFrame });
		throw endedEarly("Attach");
	} finally {
		wake.end();
		session.end(new HubClientError("CONNECTION_LOST", "the session that the message came through is lost"));
	}
}

/** Why a handler is told to stop. */
export function senderGone(reason: string): HubClientError {
	return new HubClientError(reason === "DEADLINE_EXCEEDED" ? reason : "CANCELLED", "the sender no longer waits");
}
