import { fromBinary } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { DeliveryPolicySchema, type DeliveryPolicy as PolicyMessage } from "#gen/qirvo/hub/v1/delivery_policy_pb.js";
import { HubError } from "../hub-error.ts";
import { DEFAULT_POLICY, type DeliveryPolicy } from "../messaging/delivery-policy.ts";

const MIN_ACK_WAIT_MS = 100;
const HOUR_MS = 60 * 60 * 1000;
const MAX_BACKOFFS = 32;
const MAX_DELIVERIES = 1000;

/** A policy as a session asks for it; undefined: the defaults. Refuses what is out of bounds; `field` is its path. */
export function policyOf(policy: PolicyMessage | undefined, field: string): DeliveryPolicy {
	if (policy === undefined) return DEFAULT_POLICY;
	const ackWaitMs = policy.ackWait === undefined ? DEFAULT_POLICY.ackWaitMs : durationMs(policy.ackWait);
	if (!(ackWaitMs >= MIN_ACK_WAIT_MS && ackWaitMs <= HOUR_MS)) {
		throw HubError.field(`${field}.ack_wait`, "must be 100 ms to 1 hour");
	}
	if (policy.backoff.length > MAX_BACKOFFS) {
		throw HubError.field(`${field}.backoff`, `has more than ${MAX_BACKOFFS} entries`);
	}
	const backoffMs = policy.backoff.map((pause, index) => {
		const ms = durationMs(pause);
		if (!(ms >= 0 && ms <= HOUR_MS)) throw HubError.field(`${field}.backoff[${index}]`, "must be 0 to 1 hour");
		return ms;
	});
	const maxDeliveries = policy.maxDeliveries ?? DEFAULT_POLICY.maxDeliveries;
	if (maxDeliveries < 1 || maxDeliveries > MAX_DELIVERIES) {
		throw HubError.field(`${field}.max_deliveries`, `must be 1 to ${MAX_DELIVERIES}`);
	}
	return { ackWaitMs, backoffMs, maxDeliveries };
}

/** The same from its wire form. Refuses with MALFORMED_REQUEST what is not a policy. */
export function readPolicy(bytes: Uint8Array | undefined, field: string): DeliveryPolicy {
	if (bytes === undefined) return DEFAULT_POLICY;
	let policy: PolicyMessage;
	try {
		policy = fromBinary(DeliveryPolicySchema, bytes);
	} catch (cause) {
		throw new HubError("MALFORMED_REQUEST", `${field}: is not a valid message`, { cause });
	}
	return policyOf(policy, field);
}
