import { fromBinary } from "@bufbuild/protobuf";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { type Event, EventSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { type Data, type PayloadOptions, toJson } from "./payload.ts";
import { writePayload } from "./payload-encoder.ts";
import { WireOutput } from "./wire-output.ts";
import { WireRange } from "./wire-range.ts";

/** What a publisher says of an event beside its data. */
export interface EventFields extends PayloadOptions {
	/** What it happened to. */
	readonly subject?: string;
	readonly attributes?: Readonly<Record<string, string>>;
	/** Events of one key belong together. */
	readonly orderingKey?: string;
}

// Tags, all of length-delimited fields: of `EmitStreamRequest.events`, of `Event`, of its map entries.
const EVENTS = 0x12;
const ID = 0x0a;
const TYPE = 0x12;
const SUBJECT = 0x1a;
const TIME = 0x22;
const ATTRIBUTES = 0x2a;
const KEY = 0x0a;
const VALUE = 0x12;
const ORDERING_KEY = 0x32;
const PAYLOAD = 0x3a;

const NO_FIELDS: EventFields = {};
/** What is expected of the headers and the time, so that lengths are right at the first attempt. */
const OTHER_BYTES = 24;

/** An event as it stands in an `EmitStreamRequest`. */
export class EncodedEvent extends WireRange {
	/** Decodes it. */
	toMessage(): Event {
		const reader = new BinaryReader(this.bytes);
		reader.tag();
		return fromBinary(EventSchema, reader.bytes());
	}
}

/**
 * Writes events straight into their wire form, one behind the other, so that those of a batch are copied into their frame
 * at once. Building a message and encoding that costs several times as much.
 */
export class EventEncoder {
	readonly #output = new WireOutput();

	/**
	 * The bytes that protobuf gives for the event. `time` is in milliseconds since 1970. Throws a TypeError on data that JSON
	 * cannot say, a RangeError on a time that is none.
	 */
	encode(
		id: string,
		type: string,
		time: number | undefined,
		data: Data,
		fields: EventFields = NO_FIELDS,
	): EncodedEvent {
		const { subject, attributes, orderingKey } = fields;
		const body: string | Uint8Array | undefined =
			data === undefined || data instanceof Uint8Array ? data : toJson(data);
		const bodyLength = body?.length ?? 0;
		const output = this.#output;
		output.begin();
		const length = id.length + type.length + bodyLength + OTHER_BYTES;
		const mark = output.open(EVENTS, length);
		if (id !== "") output.string(ID, id);
		if (type !== "") output.string(TYPE, type);
		if (subject !== undefined && subject !== "") output.string(SUBJECT, subject);
		if (time !== undefined) output.timestamp(TIME, time);
		if (attributes !== undefined) this.#attributes(attributes);
		if (orderingKey !== undefined && orderingKey !== "") output.string(ORDERING_KEY, orderingKey);
		if (body !== undefined || fields.contentType !== undefined || fields.schema !== undefined) {
			writePayload(output, PAYLOAD, body, fields);
		}
		output.close(mark, length);
		return new EncodedEvent(output.chunk, output.start, output.end);
	}

	#attributes(attributes: Readonly<Record<string, string>>): void {
		const output = this.#output;
		for (const key of Object.keys(attributes)) {
			const mark = output.open(ATTRIBUTES, 0);
			output.string(KEY, key);
			output.string(VALUE, attributes[key]!);
			output.close(mark, 0);
		}
	}
}
