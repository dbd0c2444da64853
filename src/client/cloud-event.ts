import type { EventDraft } from "./events.ts";
import type { HubEvent } from "./hub-event.ts";
import type { Data } from "./payload.ts";

/** A CloudEvent 1.0 in the form of its JSON format: https://github.com/cloudevents/spec. Other names are extensions. */
export interface CloudEvent {
	readonly specversion: "1.0";
	readonly id: string;
	readonly source: string;
	readonly type: string;
	readonly subject?: string;
	/** RFC 3339. */
	readonly time?: string;
	readonly datacontenttype?: string;
	readonly dataschema?: string;
	readonly data?: Data;
	readonly data_base64?: string;
	readonly [extension: string]: unknown;
}

const CONTEXT_ATTRIBUTES: ReadonlySet<string> = new Set([
	"specversion",
	"id",
	"source",
	"type",
	"subject",
	"time",
	"datacontenttype",
	"dataschema",
	"data",
	"data_base64",
]);
const EXTENSION_NAME = /^[a-z0-9]+$/;
/** The CloudEvents extension that says which events belong together: the ordering key. */
const PARTITION_KEY = "partitionkey";

/**
 * The event as a CloudEvent. Attributes become extensions where their names allow it (lower-case letters and digits);
 * others are left out.
 */
export function toCloudEvent(event: HubEvent): CloudEvent {
	const cloudEvent: Record<string, unknown> = {
		specversion: "1.0",
		id: event.id,
		source: event.source,
		type: event.type,
		time: event.time.toISOString(),
	};
	for (const [name, value] of Object.entries(event.attributes)) {
		if (EXTENSION_NAME.test(name) && !CONTEXT_ATTRIBUTES.has(name)) cloudEvent[name] = value;
	}
	if (event.subject !== "") cloudEvent.subject = event.subject;
	if (event.orderingKey !== "") cloudEvent[PARTITION_KEY] = event.orderingKey;
	const { payload } = event.raw;
	if (payload === undefined) return cloudEvent as unknown as CloudEvent;
	if (payload.schema !== "") cloudEvent.dataschema = payload.schema;
	if (payload.contentType !== "") cloudEvent.datacontenttype = payload.contentType;
	if (event.json !== undefined) {
		cloudEvent.datacontenttype ??= "application/json";
		cloudEvent.data = event.data;
	} else if (event.bytes !== undefined) {
		cloudEvent.datacontenttype ??= "application/octet-stream";
		cloudEvent.data_base64 = toBase64(event.bytes);
	}
	return cloudEvent as unknown as CloudEvent;
}

/**
 * The CloudEvent as an event to emit. Its source is not taken over: the hub stamps the plugin that emits. Extensions
 * become attributes. Throws a TypeError where it is not a CloudEvent 1.0.
 */
export function fromCloudEvent(cloudEvent: CloudEvent): EventDraft {
	const { specversion, id, type, subject, time, datacontenttype, dataschema, data, data_base64 } = cloudEvent;
	if (specversion !== "1.0") throw new TypeError(`specversion is ${JSON.stringify(specversion)}, not "1.0"`);
	if (typeof id !== "string" || id === "") throw new TypeError("a CloudEvent has an id");
	if (typeof type !== "string" || type === "") throw new TypeError("a CloudEvent has a type");
	const attributes: Record<string, string> = {};
	for (const [name, value] of Object.entries(cloudEvent)) {
		if (CONTEXT_ATTRIBUTES.has(name) || name === PARTITION_KEY || !EXTENSION_NAME.test(name)) continue;
		if (value !== undefined && value !== null) attributes[name] = String(value);
	}
	const key = cloudEvent[PARTITION_KEY];
	return {
		id,
		type,
		attributes,
		data: data_base64 === undefined ? data : fromBase64(data_base64),
		...(subject !== undefined && { subject }),
		...(time !== undefined && { time: new Date(time) }),
		...(typeof key === "string" && { orderingKey: key }),
		...(datacontenttype !== undefined && { contentType: datacontenttype }),
		...(dataschema !== undefined && { schema: dataschema }),
	};
}

function toBase64(bytes: Uint8Array): string {
	let binary = "";
	for (const byte of bytes) binary += String.fromCharCode(byte);
	return btoa(binary);
}

function fromBase64(text: string): Uint8Array {
	return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}
