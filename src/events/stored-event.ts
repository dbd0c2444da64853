import { fromBinary } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { EventSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import type { FilteredEvent } from "../expressions/event-view.ts";
import type { StoredRecord } from "../state/log-store.ts";

/** A stored event as filters see it. Its time is the publisher's, or else the hub's. */
export function decodeStored(record: StoredRecord, isReplay: boolean): FilteredEvent {
	const event = fromBinary(EventSchema, record.bytes);
	const body = event.payload?.body;
	return {
		id: event.id,
		type: event.type,
		source: event.source,
		subject: event.subject,
		attributes: event.attributes,
		time: event.time === undefined ? record.time : timestampMs(event.time),
		isReplay,
		json: body?.case === "json" ? body.value : undefined,
	};
}

/** Whether a stored event is of this source, without decoding it. */
export function isFromSource(bytes: Uint8Array, source: Uint8Array): boolean {
	let at = 0;
	while (at < bytes.byteLength) {
		const tag = bytes[at++]!;
		const isSource = tag === 0x82 && bytes[at] === 0x01;
		if (isSource) at++;
		// Every field of a stored event is length-delimited.
		let length = 0;
		let shift = 0;
		for (;;) {
			const byte = bytes[at++]!;
			length |= (byte & 0x7f) << shift;
			if (!(byte >= 0x80)) break;
			shift += 7;
		}
		if (isSource) return Buffer.compare(bytes.subarray(at, at + length), source) === 0;
		at += length;
	}
	return source.byteLength === 0;
}
