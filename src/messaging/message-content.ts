import { attributePath, RESERVED_ATTRIBUTE_PREFIX } from "../content/content-limits.ts";
import { HubError } from "../hub-error.ts";
import type { WireReader } from "../wire/wire-reader.ts";

/** What a message or reply carries, as those need it who judge it. Nothing in it is judged yet but its UTF-8 and whose attributes they are. */
export interface MessageContent {
	/** Bytes of the payload's body and of the attributes together. */
	readonly bytes: number;
	/** The body, where it is JSON; a view of the frame. */
	readonly json: Uint8Array | undefined;
	/** Undefined: there are none. */
	readonly attributes: Readonly<Record<string, string>> | undefined;
	/** As it was declared; empty: the default of its kind. */
	readonly contentType: string;
	readonly schema: string;
}

/** Gathers what a message carries while its fields are read. What comes twice is merged as protobuf has it. */
export class ContentReader implements MessageContent {
	json: Uint8Array | undefined;
	attributes: Record<string, string> | undefined;
	contentType = "";
	schema = "";
	#bodyBytes = 0;
	#attributeBytes = 0;

	get bytes(): number {
		return this.#bodyBytes + this.#attributeBytes;
	}

	payload(reader: WireReader): void {
		for (let number = reader.next(); number !== 0; number = reader.next()) {
			switch (number) {
				case 1:
					this.json = reader.utf8View();
					this.#bodyBytes = this.json.byteLength;
					break;
				case 2:
					this.json = undefined;
					this.#bodyBytes = reader.skipped();
					break;
				case 3:
					this.contentType = reader.string();
					break;
				case 4:
					this.schema = reader.string();
					break;
				default:
					reader.skip();
			}
		}
	}

	/** One entry of the attributes of what stands at `field`. Refuses a key that only the hub may set. */
	attribute(reader: WireReader, field: string): void {
		let key = "";
		let value = "";
		for (let number = reader.next(); number !== 0; number = reader.next()) {
			if (number === 1) key = reader.string();
			else if (number === 2) value = reader.string();
			else reader.skip();
		}
		if (key.startsWith(RESERVED_ATTRIBUTE_PREFIX)) {
			throw HubError.field(`${field}.${attributePath(key)}`, `the prefix "${RESERVED_ATTRIBUTE_PREFIX}" is reserved`);
		}
		this.attributes ??= Object.create(null) as Record<string, string>;
		this.attributes[key] = value;
		this.#attributeBytes += Buffer.byteLength(key) + Buffer.byteLength(value);
	}
}

/** A string of at most `max` bytes; a longer one is refused with the field's path. */
export function bounded(reader: WireReader, max: number, field: string): string {
	const start = reader.pos;
	const bytes = reader.delimited() - reader.pos;
	if (bytes > max) throw HubError.field(field, `has ${bytes} bytes; at most ${max} are allowed`);
	reader.pos = start;
	return reader.string();
}
