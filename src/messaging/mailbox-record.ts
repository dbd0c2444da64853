import { fromBinary } from "@bufbuild/protobuf";
import { DeliveryRecordSchema, type MailboxRecord } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import { asciiSize, stringSize } from "../wire/string-size.ts";
import { varintSize } from "../wire/varint.ts";
import { WireWriter } from "../wire/wire-writer.ts";
import type { PriorityClass } from "./message-draft.ts";
import { isStored, QueuedMessage, type StoredMessage, type StoredPlace, unplaced } from "./queued-message.ts";
import type { StampedMessage } from "./stamped-message.ts";

/** Writes the fields of a `MailboxRecord`, which are `recordSize` bytes. By hand: it is made for every durable message. */
export function writeRecord(writer: WireWriter, message: StoredMessage, content: StampedMessage): void {
	const { id, source, orderingKey, priority, stored } = message;
	writer.string(1, id);
	writer.string(2, source);
	if (stored.digest !== "") writer.string(3, stored.digest);
	writer.varint(4, stored.acceptTime);
	if (stored.deliverTime > 0) writer.varint(5, stored.deliverTime);
	if (stored.ttlMs > 0) writer.varint(6, stored.ttlMs);
	if (priority > 0) writer.varint(7, priority);
	if (orderingKey !== "") writer.string(8, orderingKey);
	writer.varint(9, stored.sequence);
	writer.header(10, content.size);
	stored.start = writer.length;
	content.writeTo(writer);
}

export function recordSize({ id, source, orderingKey, priority, stored, size }: StoredMessage): number {
	let bytes = stringSize(id) + asciiSize(source) + 1 + varintSize(size) + size;
	if (stored.digest !== "") bytes += asciiSize(stored.digest);
	bytes += 2 + varintSize(stored.acceptTime) + varintSize(stored.sequence);
	if (stored.deliverTime > 0) bytes += 1 + varintSize(stored.deliverTime);
	if (stored.ttlMs > 0) bytes += 1 + varintSize(stored.ttlMs);
	if (priority > 0) bytes += 2;
	if (orderingKey !== "") bytes += stringSize(orderingKey);
	return bytes;
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

/** A message as it was stored, without its bytes. `now` and `monotonic` are the two readings of the clock. */
export function messageOf(
	record: Omit<MailboxRecord, "message"> & { readonly size: number },
	attempts: number,
	clock: { now(): number; monotonic(): number },
): StoredMessage {
	const order = {
		sequence: Number(record.sequence),
		acceptTime: Number(record.acceptTimeMs),
		deliverTime: Number(record.deliverTimeMs),
		ttlMs: Number(record.ttlMs),
		digest: record.digest,
	};
	const stored = unplaced(order, attempts > 0, undefined);
	const message: QueuedMessage = new QueuedMessage({
		id: record.id,
		source: record.source,
		priority: Math.min(record.priorityClass, 2) as PriorityClass,
		orderingKey: record.orderingKey,
		bytes: undefined,
		size: record.size,
		expiresAt: expiryOf(stored, clock),
		request: undefined,
		stored,
	});
	message.attempt = attempts;
	if (!isStored(message)) throw new Error("a durable message has its place");
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
