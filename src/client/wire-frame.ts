import { fromBinary } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { EventService, type SubscribeResponse, SubscribeResponseSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { type Position, PositionSchema } from "#gen/qirvo/hub/v1/payload_pb.js";
import type { SelfDecoding } from "./transports/self-decoding.ts";

/** A batch whose events are left in their wire form. */
export interface WireBatch {
	readonly position: Position | undefined;
	readonly frame: { readonly case: "wireBatch"; readonly value: readonly Uint8Array[] };
}

// Field numbers of `SubscribeResponse` and `EventBatch`.
const POSITION = 1;
const BATCH = 3;
const EVENTS = 1;

/** `Subscribe`, decoded as far as it must be where the transport lets us. */
export const lazySubscribe: typeof EventService.method.subscribe & SelfDecoding<SubscribeResponse | WireBatch> = {
	...EventService.method.subscribe,
	decode: decodeFrame,
};

/** A frame of a subscription. Throws on bytes that are none. */
export function decodeFrame(bytes: Uint8Array): SubscribeResponse | WireBatch {
	const reader = new BinaryReader(bytes);
	let position: Position | undefined;
	let events: Uint8Array[] | undefined;
	while (reader.pos < reader.len) {
		const [field, wireType] = reader.tag();
		if (field === POSITION && wireType === WireType.LengthDelimited) {
			position = fromBinary(PositionSchema, reader.bytes());
		} else if (field === BATCH && wireType === WireType.LengthDelimited) {
			events = eventsOf(reader.bytes());
		} else {
			return fromBinary(SubscribeResponseSchema, bytes);
		}
	}
	return events
		? { position, frame: { case: "wireBatch", value: events } }
		: fromBinary(SubscribeResponseSchema, bytes);
}

function eventsOf(batch: Uint8Array): Uint8Array[] {
	const reader = new BinaryReader(batch);
	const events: Uint8Array[] = [];
	while (reader.pos < reader.len) {
		const [field, wireType] = reader.tag();
		if (field === EVENTS && wireType === WireType.LengthDelimited) events.push(reader.bytes());
		else reader.skip(wireType, field);
	}
	return events;
}
