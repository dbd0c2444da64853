import { varintSize } from "../wire/varint.ts";
import { timeSize } from "../wire/wire-time.ts";
import { WireWriter } from "../wire/wire-writer.ts";
import type { MessageDraft } from "./message-draft.ts";

/** What the hub says about a message. */
export interface MessageStamp {
	/** The draft's own id, or the one made for it. */
	readonly id: string;
	readonly source: string;
	readonly recipient: string;
	/** Milliseconds since the Unix epoch. */
	readonly hubTime: number;
	readonly requiresResponse: boolean;
}

/** Bytes around the strings of a stamp: tags, lengths, the time. */
const STAMP_OVERHEAD = 64;

/**
 * The hub's copy of a message in wire form: the sender's fields as they came, then the hub's. Where a field is there
 * twice the last one counts, so the sender's bytes need no rewriting. `attempt` is appended with each delivery.
 *
 * It is a copy so that a message that waits does not keep the whole frame it came in.
 */
export function stampMessage(draft: MessageDraft, stamp: MessageStamp): Uint8Array {
	const strings = stamp.source.length + stamp.recipient.length + (draft.id === "" ? stamp.id.length : 0);
	const writer = new WireWriter(draft.wire.byteLength + strings * 3 + STAMP_OVERHEAD);
	writer.append(draft.wire);
	if (draft.id === "") writer.string(1, stamp.id);
	writer.string(16, stamp.source);
	writer.string(17, stamp.recipient);
	writer.time(18, stamp.hubTime);
	if (stamp.requiresResponse) writer.varint(19, true);
	return writer.finish();
}

/** A `Message` in wire form with one attribute more; where it has one of this key already, this one counts. */
export function withAttribute(wire: Uint8Array, key: string, value: string): Uint8Array {
	const entry = new WireWriter();
	entry.string(1, key);
	entry.string(2, value);
	const writer = new WireWriter(wire.byteLength + entry.length + STAMP_OVERHEAD);
	writer.append(wire);
	writer.bytes(9, entry.finish());
	return writer.finish();
}

/** One delivery as it goes down to a recipient. */
export interface DeliveryFields {
	readonly id: string;
	/** From `stampMessage`. */
	readonly message: Uint8Array;
	readonly attempt: number;
	/** Milliseconds; undefined for what is not a request. */
	readonly timeLeftMs: number | undefined;
}

/** A `DeliveryBatch` as field `field` of its frame. */
export function encodeDeliveries(field: number, deliveries: readonly DeliveryFields[]): Uint8Array {
	let total = 0;
	const sizes = deliveries.map((delivery) => {
		const size = deliverySize(delivery);
		total += 1 + varintSize(size) + size;
		return size;
	});
	const writer = new WireWriter(total + STAMP_OVERHEAD);
	writer.header(field, total);
	for (let index = 0; index < deliveries.length; index++) {
		const { id, message, attempt, timeLeftMs } = deliveries[index]!;
		writer.header(1, sizes[index]!);
		writer.string(1, id);
		writer.header(2, message.byteLength + attemptSize(attempt));
		writer.append(message);
		writer.varint(20, attempt);
		if (timeLeftMs !== undefined) writer.time(3, timeLeftMs);
	}
	return writer.finish();
}

/** `id` is ASCII: the hub made it. */
function deliverySize({ id, message, attempt, timeLeftMs }: DeliveryFields): number {
	const body = message.byteLength + attemptSize(attempt);
	const time = timeLeftMs === undefined ? 0 : 2 + timeSize(timeLeftMs);
	return 2 + id.length + 1 + varintSize(body) + body + time;
}

function attemptSize(attempt: number): number {
	return 2 + varintSize(attempt);
}
