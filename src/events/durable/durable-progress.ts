import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { DurableProgressRecordSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import type { LogStore } from "../../state/log-store.ts";
import { varintSize, writeVarint } from "../../wire/varint.ts";
import { WireReader } from "../../wire/wire-reader.ts";

/** What a durable subscription has counted since it was created. */
export interface DurableCounters {
	delivered: number;
	redelivered: number;
	acknowledged: number;
	/** Events that became dead letters. */
	dead: number;
	/** Events that retention dropped, at most. */
	lost: number;
	filterErrors: number;
}

/** An event below the cursor that is not settled. */
export interface UnsettledEvent {
	readonly sequence: number;
	readonly attempts: number;
	/** Milliseconds since the Unix epoch; 0: at any time. */
	readonly notBefore: number;
}

/** How far a durable subscription is: everything below the cursor is settled or does not match, but for `unsettled`. */
export interface DurableProgress {
	readonly epoch: string;
	readonly cursor: number;
	/** Ascending. */
	readonly unsettled: readonly UnsettledEvent[];
	readonly counters: Readonly<DurableCounters>;
}

export function newCounters(): DurableCounters {
	return { delivered: 0, redelivered: 0, acknowledged: 0, dead: 0, lost: 0, filterErrors: 0 };
}

/** The first sequence that is not known to be settled. */
export function floorOf({ cursor, unsettled }: DurableProgress): number {
	return unsettled[0]?.sequence ?? cursor;
}

/** Stored events after the floor that are not known to be settled. */
export function lagOf({ epoch, cursor, unsettled }: DurableProgress, log: LogStore): number {
	const { first, next } = log.bounds();
	if (epoch !== log.epoch) return next - first;
	return Math.max(0, next - Math.max(cursor, first)) + unsettled.length;
}

export function encodeProgress({ epoch, cursor, unsettled, counters }: DurableProgress): Uint8Array {
	return toBinary(
		DurableProgressRecordSchema,
		create(DurableProgressRecordSchema, {
			epoch,
			cursor: BigInt(cursor),
			unsettled: encodeUnsettled(unsettled),
			delivered: BigInt(counters.delivered),
			redelivered: BigInt(counters.redelivered),
			acknowledged: BigInt(counters.acknowledged),
			dead: BigInt(counters.dead),
			lost: BigInt(counters.lost),
			filterErrors: BigInt(counters.filterErrors),
		}),
	);
}

export function decodeProgress(bytes: Uint8Array): DurableProgress {
	const record = fromBinary(DurableProgressRecordSchema, bytes);
	return {
		epoch: record.epoch,
		cursor: Number(record.cursor),
		unsettled: decodeUnsettled(record.unsettled),
		counters: {
			delivered: Number(record.delivered),
			redelivered: Number(record.redelivered),
			acknowledged: Number(record.acknowledged),
			dead: Number(record.dead),
			lost: Number(record.lost),
			filterErrors: Number(record.filterErrors),
		},
	};
}

/** Written with every acknowledgement, so it is kept small: about four bytes an event. */
function encodeUnsettled(events: readonly UnsettledEvent[]): Uint8Array {
	let size = 0;
	let before = 0;
	for (const { sequence, attempts, notBefore } of events) {
		size += varintSize(sequence - before) + varintSize(attempts) + varintSize(notBefore);
		before = sequence;
	}
	const bytes = new Uint8Array(size);
	let at = 0;
	before = 0;
	for (const { sequence, attempts, notBefore } of events) {
		at = writeVarint(bytes, at, sequence - before);
		at = writeVarint(bytes, at, attempts);
		at = writeVarint(bytes, at, notBefore);
		before = sequence;
	}
	return bytes;
}

function decodeUnsettled(bytes: Uint8Array): readonly UnsettledEvent[] {
	const reader = new WireReader(bytes);
	const events: UnsettledEvent[] = [];
	let sequence = 0;
	while (reader.pos < reader.end) {
		sequence += reader.varint();
		events.push({ sequence, attempts: reader.varint(), notBefore: reader.varint() });
	}
	return events;
}
