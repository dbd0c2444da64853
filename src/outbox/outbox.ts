import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type OutboxRecord, OutboxRecordSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import { keys } from "../state/key-layout.ts";
import type { KvWrite } from "../state/kv-store.ts";

/** An event that must reach the event log if, and only if, the commit that carries it is applied. */
export interface OutboxEvent {
	/** 1 to 128 bytes, unique to this event for ever: the log stores an id once, so moving it twice is harmless. */
	readonly id: string;
	/** The event's type in canonical form. */
	readonly type: string;
	/** A `qirvo.hub.v1.Event` in wire form, with its source and without the fields that the log assigns. */
	readonly event: Uint8Array;
}

/** The write that puts an event into the outbox; it goes into the commit of the change that the event tells of. */
export function outboxEventWrite({ id, type, event }: OutboxEvent): KvWrite {
	const record = create(OutboxRecordSchema, { id, topic: type, event });
	return { key: keys.outboxEvent(id), value: toBinary(OutboxRecordSchema, record) };
}

/** What `outboxEventWrite` stored. Throws on bytes that are not an outbox record. */
export function decodeOutbox(bytes: Uint8Array): OutboxRecord {
	return fromBinary(OutboxRecordSchema, bytes);
}
