import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { type DurableDefinitionRecord, DurableDefinitionRecordSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import type { DurableSubscription } from "#gen/qirvo/hub/v1/durable_subscriptions_pb.js";
import type { KvEntry } from "../../state/kv-store.ts";
import { type Pattern, parsePattern } from "../../subjects/pattern.ts";

/** Defaults and bounds of a durable subscription. Times in milliseconds. */
export const DURABLE_LIMITS = Object.freeze({
	ackWaitMs: Object.freeze({ usual: 30_000, least: 100, most: 60 * 60 * 1000 }),
	backoffMs: 60 * 60 * 1000,
	backoffSteps: 16,
	deliveries: Object.freeze({ usual: 5, most: 1000 }),
	inFlight: Object.freeze({ usual: 1000, most: 10_000 }),
	/** Of one plugin. */
	perPlugin: 256,
	/** Of one subscription: events that were put back and are not settled, and bytes of them. */
	returned: Object.freeze({ events: 1000, bytes: 64 * 1024 * 1024 }),
	/** Sessions of one subscription. */
	sessions: 256,
});

/** A durable subscription as it is stored. */
export interface DurableDefinition {
	readonly pluginId: string;
	readonly name: string;
	/** As it is shown, without revision and status. */
	readonly shown: DurableSubscription;
	/** Of the stored record: a group that was opened with another one has nothing to say any more. */
	readonly revision: number;
	/** What tells it from another one of its name, before or after it. A reset does not change it. */
	readonly life: number;
	readonly registrationRevision: number;
	readonly patterns: readonly Pattern[];
	/** Whether it started in the past, which takes the right to replay. */
	readonly replays: boolean;
	/** Events stored below this sequence are marked as replayed. */
	readonly began: number;
	readonly ackWaitMs: number;
	readonly backoffMs: readonly number[];
	readonly maxDeliveries: number;
	readonly maxInFlight: number;
}

export function decodeDefinition(entry: KvEntry): DurableDefinition {
	const record = fromBinary(DurableDefinitionRecordSchema, entry.value);
	const shown = record.subscription!;
	return {
		pluginId: shown.pluginId,
		name: shown.name,
		shown,
		revision: entry.revision,
		life: entry.createRevision,
		registrationRevision: Number(record.registrationRevision),
		patterns: shown.patterns.map((pattern, index) => parsePattern(pattern, `patterns[${index}]`)),
		replays: shown.start !== undefined && shown.start.from.case !== "newOnly",
		began: Number(record.began),
		ackWaitMs: shown.ackWait === undefined ? DURABLE_LIMITS.ackWaitMs.usual : durationMs(shown.ackWait),
		backoffMs: shown.backoff.map(durationMs),
		maxDeliveries: shown.maxDeliveries,
		maxInFlight: shown.maxInFlight,
	};
}

export function encodeDefinition(record: Omit<DurableDefinitionRecord, "$typeName">): Uint8Array {
	return toBinary(DurableDefinitionRecordSchema, create(DurableDefinitionRecordSchema, record));
}
