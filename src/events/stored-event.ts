import { fromBinary } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { EventSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import type { FilteredEvent } from "../expressions/event-view.ts";
import type { StoredRecord } from "../state/log-store.ts";
import { WireReader } from "../wire/wire-reader.ts";

/** `Event.ordering_key`. */
const ORDERING_KEY_FIELD = 6;
/** `Event.source`. */
const SOURCE_FIELD = 16;

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
	const reader = new WireReader(bytes);
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		if (number === SOURCE_FIELD) return Buffer.compare(reader.view(), source) === 0;
		reader.skip();
	}
	return source.byteLength === 0;
}

/** The ordering key of a stored event, without decoding the rest; empty where there is none. */
export function orderingKeyOf(bytes: Uint8Array): string {
	const reader = new WireReader(bytes);
	let key = "";
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		if (number === ORDERING_KEY_FIELD) key = reader.string();
		else reader.skip();
	}
	return key;
}
