import { create } from "@bufbuild/protobuf";
import { DeliveryPolicySchema, type DeliveryPolicy as PolicyMessage } from "#gen/qirvo/hub/v1/delivery_policy_pb.js";
import { toDuration } from "./durations.ts";

/** How durable messages are repeated until their handler has done with them. Times in milliseconds. */
export interface DeliveryPolicy {
	/** How long the hub waits for a sign of life from a handler, which the client gives by itself. Default 30 s. */
	readonly ackWait?: number;
	/** How long to wait after the first failure, the second, ...; the last for all that follow. Default: not at all. */
	readonly backoff?: readonly number[];
	/** After so many failures a message becomes a dead letter. Default 5. */
	readonly maxDeliveries?: number;
}

export const DEFAULT_ACK_WAIT_MS = 30_000;

export function toPolicy({ ackWait, backoff = [], maxDeliveries }: DeliveryPolicy): PolicyMessage {
	const policy = create(DeliveryPolicySchema, { backoff: backoff.map(toDuration) });
	if (ackWait !== undefined) policy.ackWait = toDuration(ackWait);
	if (maxDeliveries !== undefined) policy.maxDeliveries = maxDeliveries;
	return policy;
}
