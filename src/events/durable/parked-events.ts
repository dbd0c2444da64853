import { create, toBinary } from "@bufbuild/protobuf";
import { DeadEventRecordSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import type { KvWrite } from "../../state/kv-store.ts";
import type { DeadEvent, DeadLetterSink } from "./dead-letter-sink.ts";
import { durableKeys } from "./durable-keys.ts";

/** Events of one subscription that are kept; one more takes the place of the oldest. */
export const MAX_PARKED = 1000;

/** Keeps the last events that were set aside beside their subscription; they go when it is deleted. */
export const parkedEvents: DeadLetterSink = {
	park({ pluginId, subscription, ordinal, event, attempts, reason, time }: DeadEvent): readonly KvWrite[] {
		const record = create(DeadEventRecordSchema, { event, attempts, reason, timeMs: BigInt(time) });
		const key = durableKeys.dead(pluginId, subscription, ordinal % MAX_PARKED);
		return [{ key, value: toBinary(DeadEventRecordSchema, record) }];
	},
};
