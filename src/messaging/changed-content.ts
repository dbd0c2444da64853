import { WireReader } from "../wire/wire-reader.ts";
import { WireWriter } from "../wire/wire-writer.ts";
import type { Verdict } from "./inspector.ts";
import { ContentReader, type MessageContent } from "./message-content.ts";
import type { MessageDraft } from "./message-draft.ts";
import { withAttribute } from "./stamped-message.ts";

const ATTRIBUTES = 9;
const PAYLOAD = 10;

/**
 * The message with other content; all else stays, so that what its sender wrote still tells a repeat. Refuses content as
 * `parseMessage` does.
 */
export function changeContent(
	draft: MessageDraft,
	{ payload, attributes }: Extract<Verdict, { kind: "change" }>,
): MessageDraft {
	let wire = withoutReplaced(draft.wire, payload !== undefined, attributes);
	if (payload !== undefined) {
		const writer = new WireWriter(wire.byteLength + payload.byteLength + 16);
		writer.append(wire);
		writer.bytes(PAYLOAD, payload);
		wire = writer.finish();
	}
	for (const [key, value] of attributes) if (value !== undefined) wire = withAttribute(wire, key, value);
	return { ...draft, wire, content: contentOf(wire) };
}

function contentOf(wire: Uint8Array): MessageContent {
	const content = new ContentReader();
	const reader = new WireReader(wire);
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		if (number === ATTRIBUTES) content.attribute(reader.nested(), "message");
		else if (number === PAYLOAD) content.payload(reader.nested());
		else reader.skip();
	}
	return content;
}

function withoutReplaced(
	wire: Uint8Array,
	replacesPayload: boolean,
	attributes: ReadonlyMap<string, string | undefined>,
): Uint8Array {
	const reader = new WireReader(wire);
	const writer = new WireWriter(wire.byteLength);
	for (let start = 0; ; start = reader.pos) {
		const number = reader.next();
		if (number === 0) return writer.finish();
		let stays = true;
		if (number === ATTRIBUTES) stays = !attributes.has(keyOf(reader.nested()));
		else {
			reader.skip();
			stays = number !== PAYLOAD || !replacesPayload;
		}
		if (stays) writer.append(wire.subarray(start, reader.pos));
	}
}

function keyOf(entry: WireReader): string {
	let key = "";
	for (let number = entry.next(); number !== 0; number = entry.next()) {
		if (number === 1) key = entry.string();
		else entry.skip();
	}
	return key;
}
