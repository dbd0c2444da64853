import { HubError } from "../hub-error.ts";
import { WireReader } from "../wire/wire-reader.ts";
import { readDuration } from "../wire/wire-time.ts";
import { WireWriter } from "../wire/wire-writer.ts";
import { bounded, ContentReader, type MessageContent } from "./message-content.ts";

const MAX_TYPE_BYTES = 128;
const MAX_MESSAGE_BYTES = 4096;

/** A handler's answer, checked, in wire form. */
export interface ReplyDraft {
	/** `ReplyContent`; a view of the frame it came in. */
	readonly wire: Uint8Array;
	/** Data and attributes; then, where there is an error, its details. */
	readonly contents: readonly MessageContent[];
}

/** Reads a `ReplyContent` in wire form. Refuses with INVALID_FIELD; `field` is its path. */
export function parseReply(wire: Uint8Array, field: string): ReplyDraft {
	const reader = new WireReader(wire);
	const data = new ContentReader();
	const details = new ContentReader();
	let success = false;
	let hasError = false;
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		switch (number) {
			case 1:
				success = reader.number() !== 0;
				break;
			case 2:
				data.payload(reader.nested());
				break;
			case 3:
				hasError = true;
				readError(reader.nested(), details, `${field}.error`);
				break;
			case 4:
				data.attribute(reader.nested(), field);
				break;
			default:
				reader.skip();
		}
	}
	if (success && hasError) throw HubError.field(`${field}.error`, "must be absent where `success` is true");
	return { wire, contents: hasError ? [data, details] : [data] };
}

function readError(reader: WireReader, details: ContentReader, field: string): void {
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		switch (number) {
			case 1:
				bounded(reader, MAX_TYPE_BYTES, `${field}.type`);
				break;
			case 2:
				bounded(reader, MAX_MESSAGE_BYTES, `${field}.message`);
				break;
			case 3:
				reader.number();
				break;
			case 4:
				if (!(readDuration(reader.nested()) >= 0)) throw HubError.field(`${field}.retry_after`, "must not be negative");
				break;
			case 5:
				details.payload(reader.nested());
				break;
			default:
				reader.skip();
		}
	}
}

/** A failure that the hub states in the handler's place, with `error.type` as its name. */
export type HubReplyType = "terminated" | "attempts_exhausted" | "invalid_reply";

/** An unsuccessful `ReplyContent` in wire form. */
export function failedReply(type: HubReplyType, message: string, nonRetryable: boolean): Uint8Array {
	const error = new WireWriter();
	error.string(1, type);
	error.string(2, message);
	if (nonRetryable) error.varint(3, true);
	const reply = new WireWriter();
	reply.bytes(3, error.finish());
	return reply.finish();
}
