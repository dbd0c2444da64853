import { create } from "@bufbuild/protobuf";
import {
	type DurableSubscriptionStatus,
	DurableSubscriptionStatusSchema,
} from "#gen/qirvo/hub/v1/durable_subscriptions_pb.js";
import type { LogStore } from "../../state/log-store.ts";
import type { ConsumerGroup } from "./consumer-group.ts";
import { type DurableProgress, floorOf, lagOf } from "./durable-progress.ts";

/** How far a durable subscription is; `group` consumes it now, where one does. */
export function statusOf(
	progress: DurableProgress,
	log: LogStore,
	group: ConsumerGroup | undefined,
): DurableSubscriptionStatus {
	const { epoch, counters } = progress;
	return create(DurableSubscriptionStatusSchema, {
		floor: { epoch, sequence: BigInt(Math.max(0, floorOf(progress) - 1)) },
		lag: BigInt(lagOf(progress, log)),
		inFlight: group?.inFlight ?? 0,
		waiting: group?.waiting ?? progress.unsettled.length,
		sessions: group?.sessions ?? 0,
		delivered: BigInt(counters.delivered),
		redelivered: BigInt(counters.redelivered),
		acknowledged: BigInt(counters.acknowledged),
		dead: BigInt(counters.dead),
		lost: BigInt(counters.lost),
		filterErrors: BigInt(counters.filterErrors),
	});
}
