import { WireReader } from "../wire/wire-reader.ts";
import { WireWriter } from "../wire/wire-writer.ts";

/** Fields of `Payload`. */
const JSON_BODY = 1;
const BINARY_BODY = 2;
const CONTENT_TYPE = 3;
const SCHEMA = 4;

/** One for all: payloads are read whole, in one turn. */
const READER = new WireReader(Buffer.alloc(0));

/** The bytes of the `Payload` in wire form between these places that count against quotas: of its body, content type and schema. */
export function payloadBytes(buffer: Buffer, start: number, end: number): number {
	const reader = READER;
	reader.begin(buffer, start, end);
	let body = 0;
	let contentType = 0;
	let schema = 0;
	for (let field = reader.next(); field !== 0; field = reader.next()) {
		if (field > SCHEMA) {
			reader.skip();
			continue;
		}
		const length = reader.skipped();
		if (field === CONTENT_TYPE) contentType = length;
		else if (field === SCHEMA) schema = length;
		else body = length;
	}
	return body + contentType + schema;
}

/** The JSON text of a payload; undefined where its body is another. */
export function jsonBody(payload: Uint8Array): string | undefined {
	const reader = new WireReader(payload);
	let json: string | undefined;
	for (let field = reader.next(); field !== 0; field = reader.next()) {
		if (field === JSON_BODY) json = reader.string();
		else {
			if (field === BINARY_BODY) json = undefined;
			reader.skip();
		}
	}
	return json;
}

/** A payload with this JSON body; what describes the content is as in `before`. */
export function withJsonBody(before: Uint8Array | undefined, json: string): Uint8Array {
	const writer = new WireWriter(json.length + 64);
	writer.string(JSON_BODY, json);
	if (before === undefined) return writer.finish();
	const reader = new WireReader(before);
	for (let field = reader.next(); field !== 0; field = reader.next()) {
		if (field === CONTENT_TYPE || field === SCHEMA) writer.bytes(field, reader.view());
		else reader.skip();
	}
	return writer.finish();
}
