import { fromBinary } from "@bufbuild/protobuf";
import { DeliveryRecordSchema, type MailboxRecord, MailboxRecordSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import { WireWriter } from "../wire/wire-writer.ts";
import type { PriorityClass } from "./message-draft.ts";
import { QueuedMessage, type StoredPlace } from "./queued-message.ts";

/** Bytes around the strings of a record: tags, lengths, times. */
const RECORD_OVERHEAD = 96;

/** A `MailboxRecord` in wire form, whose last bytes are the message. By hand: it is made for every durable message. */
export function encodeMessage(message: QueuedMessage, stored: StoredPlace, bytes: Uint8Array): Uint8Array {
	const { id, source, orderingKey, priority } = message;
	const strings = (id.length + source.length + orderingKey.length) * 3 + stored.digest.length;
	const writer = new WireWriter(bytes.byteLength + strings + RECORD_OVERHEAD);
	writer.string(1, id);
	writer.string(2, source);
	if (stored.digest !== "") writer.string(3, stored.digest);
	writer.varint(4, stored.acceptTime);
	if (stored.deliverTime > 0) writer.varint(5, stored.deliverTime);
	if (stored.ttlMs > 0) writer.varint(6, stored.ttlMs);
	if (priority > 0) writer.varint(7, priority);
	if (orderingKey !== "") writer.string(8, orderingKey);
	writer.bytes(10, bytes);
	return writer.finish();
}

/** A `DeliveryRecord` in wire form. */
export function encodeAttempts(attempts: number, notBefore: number): Uint8Array {
	const writer = new WireWriter(24);
	writer.varint(1, attempts);
	if (notBefore > 0) writer.varint(2, notBefore);
	return writer.finish();
}

/** What `encodeAttempts` wrote; undefined: nothing was. */
export function decodeAttempts(bytes: Uint8Array | undefined): {
	readonly attempts: number;
	readonly notBefore: number;
} {
	if (bytes === undefined) return { attempts: 0, notBefore: 0 };
	const { attempts, notBeforeMs } = fromBinary(DeliveryRecordSchema, bytes);
	return { attempts, notBefore: Number(notBeforeMs) };
}

/** Throws on bytes that are not a record. */
export function decodeRecord(bytes: Uint8Array): MailboxRecord {
	return fromBinary(MailboxRecordSchema, bytes);
}

/** A message as it was stored, without its bytes. `now` and `monotonic` are the two readings of the clock. */
export function messageOf(
	record: MailboxRecord,
	sequence: number,
	attempts: number,
	clock: { now(): number; monotonic(): number },
): QueuedMessage {
	const stored: StoredPlace = {
		sequence,
		acceptTime: Number(record.acceptTimeMs),
		deliverTime: Number(record.deliverTimeMs),
		ttlMs: Number(record.ttlMs),
		digest: record.digest,
		noted: attempts > 0,
		key: "",
		known: undefined,
	};
	const message = new QueuedMessage({
		id: record.id,
		source: record.source,
		priority: Math.min(record.priorityClass, 2) as PriorityClass,
		orderingKey: record.orderingKey,
		bytes: undefined,
		size: record.message.byteLength,
		expiresAt: expiryOf(stored, clock),
		request: undefined,
		stored,
	});
	message.attempt = attempts;
	return message;
}

/** When a stored message expires, in `Clock.monotonic()` milliseconds; infinite: never. */
export function expiryOf(
	stored: Pick<StoredPlace, "acceptTime" | "deliverTime" | "ttlMs">,
	clock: { now(): number; monotonic(): number },
): number {
	if (stored.ttlMs === 0) return Number.POSITIVE_INFINITY;
	const time = Math.max(stored.acceptTime, stored.deliverTime) + stored.ttlMs;
	return clock.monotonic() + (time - clock.now());
}
