import { HubError } from "../hub-error.ts";
import type { WireReader } from "./wire-reader.ts";

/** What a message or reply carries, in place, for those who judge it. */
export interface MessageContent {
	/** Bytes of the payload's body and of the attributes together. */
	readonly bytes: number;
	readonly kind: "none" | "json" | "binary";
	/** The body as it was sent; empty where there is none. JSON is checked to be UTF-8, no more. */
	readonly body: Uint8Array;
	/** As it was declared; empty: the default of its kind. */
	readonly contentType: string;
	readonly schema: string;
}

const MAX_ATTRIBUTES = 64;
const MAX_KEY_BYTES = 128;
const MAX_VALUE_BYTES = 4096;
const MAX_CONTENT_TYPE_BYTES = 128;
const MAX_SCHEMA_BYTES = 512;

/** Keys that begin like this are the hub's to set. */
const RESERVED_PREFIX = Buffer.from("hub-");

const NO_BYTES = new Uint8Array(0);

/** Gathers what a message carries while its fields are read. Refuses what is out of bounds with the field's path. */
export class ContentReader implements MessageContent {
	bytes = 0;
	kind: "none" | "json" | "binary" = "none";
	body: Uint8Array = NO_BYTES;
	contentType = "";
	schema = "";
	#attributes = 0;

	/** `field` is the path of the payload. */
	payload(reader: WireReader, field: string): void {
		for (let number = reader.next(); number !== 0; number = reader.next()) {
			switch (number) {
				case 1:
					this.#body("json", reader.utf8View());
					break;
				case 2:
					this.#body("binary", reader.view());
					break;
				case 3:
					this.contentType = bounded(reader, MAX_CONTENT_TYPE_BYTES, `${field}.content_type`);
					break;
				case 4:
					this.schema = bounded(reader, MAX_SCHEMA_BYTES, `${field}.schema`);
					break;
				default:
					reader.skip();
			}
		}
	}

	/** One entry of the attributes; `field` is their path. A key given twice counts twice. */
	attribute(reader: WireReader, field: string): void {
		if (++this.#attributes > MAX_ATTRIBUTES) throw HubError.field(field, `has more than ${MAX_ATTRIBUTES} entries`);
		let key: Uint8Array = NO_BYTES;
		let value: Uint8Array = NO_BYTES;
		for (let number = reader.next(); number !== 0; number = reader.next()) {
			if (number === 1) key = reader.utf8View();
			else if (number === 2) value = reader.utf8View();
			else reader.skip();
		}
		if (key.byteLength === 0 || key.byteLength > MAX_KEY_BYTES) {
			throw HubError.field(field, `has a key of ${key.byteLength} bytes; 1 to ${MAX_KEY_BYTES} are allowed`);
		}
		if (value.byteLength > MAX_VALUE_BYTES) {
			throw HubError.field(field, `has a value of ${value.byteLength} bytes; at most ${MAX_VALUE_BYTES} are allowed`);
		}
		if (RESERVED_PREFIX.every((byte, at) => key[at] === byte)) {
			throw HubError.field(field, `has a key that begins with "${RESERVED_PREFIX}", which is reserved`);
		}
		this.bytes += key.byteLength + value.byteLength;
	}

	/** Of a oneof given twice the last counts, as every decoder has it. */
	#body(kind: "json" | "binary", body: Uint8Array): void {
		this.bytes += body.byteLength - this.body.byteLength;
		this.kind = kind;
		this.body = body;
	}
}

/** A string of at most `max` bytes. */
export function bounded(reader: WireReader, max: number, field: string): string {
	const start = reader.pos;
	const bytes = reader.delimited() - reader.pos;
	if (bytes > max) throw HubError.field(field, `has ${bytes} bytes; at most ${max} are allowed`);
	reader.pos = start;
	return reader.string();
}
