import { varintSize } from "../wire/varint.ts";
import { timeSize } from "../wire/wire-time.ts";
import { lengthDelimited, WireWriter } from "../wire/wire-writer.ts";
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

/** The fields that the hub sets, as they were written last: those of one sender to one recipient are alike for a millisecond. */
let lastFields: { readonly stamp: MessageStamp; readonly bytes: Uint8Array } | undefined;

/** What a stamp adds to a message without an id beside the hub's fields. */
const NOTHING = new Uint8Array();

/**
 * A message in wire form as the hub passes it on: the sender's fields as they came, then the hub's. Where a field is there
 * twice the last one counts, so the sender's bytes need no rewriting. `attempt` is appended with each delivery.
 */
export class StampedMessage {
	readonly #wire: Uint8Array;
	readonly #ownId: Uint8Array;
	readonly #fields: Uint8Array;
	/** Bytes in all. */
	readonly size: number;

	/** `ownId`: the field of an id that the hub made; empty where the sender did. `fields`: what else the hub says. */
	constructor(wire: Uint8Array, ownId: Uint8Array = NOTHING, fields: Uint8Array = NOTHING) {
		this.#wire = wire;
		this.#ownId = ownId;
		this.#fields = fields;
		this.size = wire.byteLength + ownId.byteLength + fields.byteLength;
	}

	static of(draft: MessageDraft, stamp: MessageStamp): StampedMessage {
		const ownId = draft.id === "" ? lengthDelimited(1, Buffer.from(stamp.id)) : undefined;
		return new StampedMessage(draft.wire, ownId, hubFields(stamp));
	}

	writeTo(writer: WireWriter): void {
		writer.append(this.#wire);
		if (this.#ownId.byteLength > 0) writer.append(this.#ownId);
		writer.append(this.#fields);
	}
}

/** The hub's copy of a message: one that waits does not keep the whole frame it came in. */
export function stampMessage(draft: MessageDraft, stamp: MessageStamp): Uint8Array {
	const stamped = StampedMessage.of(draft, stamp);
	const writer = new WireWriter(stamped.size);
	stamped.writeTo(writer);
	return writer.finish();
}

function hubFields(stamp: MessageStamp): Uint8Array {
	const { source, recipient, hubTime, requiresResponse } = stamp;
	const last = lastFields?.stamp;
	if (
		last !== undefined &&
		last.hubTime === hubTime &&
		last.recipient === recipient &&
		last.source === source &&
		last.requiresResponse === requiresResponse
	) {
		return lastFields!.bytes;
	}
	const writer = new WireWriter((source.length + recipient.length) * 3 + STAMP_OVERHEAD);
	writer.string(16, source);
	writer.string(17, recipient);
	writer.time(18, hubTime);
	if (requiresResponse) writer.varint(19, true);
	const bytes = writer.finish();
	lastFields = { stamp, bytes };
	return bytes;
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

/** A part of some bytes. No view: that would be made for every message. */
export interface ByteRange {
	readonly bytes: Uint8Array;
	readonly start: number;
	readonly end: number;
}

/** One delivery as it goes down to a recipient. */
export interface DeliveryFields {
	readonly id: string;
	/** As it was stamped. */
	readonly message: ByteRange;
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
		const { bytes, start, end } = message;
		writer.header(2, end - start + attemptSize(attempt));
		writer.appendRange(bytes, start, end);
		writer.varint(20, attempt);
		if (timeLeftMs !== undefined) writer.time(3, timeLeftMs);
	}
	return writer.finish();
}

/** `id` is ASCII: the hub made it. */
function deliverySize({ id, message, attempt, timeLeftMs }: DeliveryFields): number {
	const body = message.end - message.start + attemptSize(attempt);
	const time = timeLeftMs === undefined ? 0 : 2 + timeSize(timeLeftMs);
	return 2 + id.length + 1 + varintSize(body) + body + time;
}

function attemptSize(attempt: number): number {
	return 2 + varintSize(attempt);
}
