import type { PayloadOptions } from "./payload.ts";
import type { WireOutput } from "./wire-output.ts";

// Tags of `Payload`.
const JSON_BODY = 0x0a;
const BINARY_BODY = 0x12;
const CONTENT_TYPE = 0x1a;
const SCHEMA = 0x22;

const BODY_HEADER_BYTES = 3;

/** Writes a `Payload` as the field of this tag. A text is JSON; undefined is no body. */
export function writePayload(
	output: WireOutput,
	tag: number,
	body: string | Uint8Array | undefined,
	{ contentType, schema }: PayloadOptions,
): void {
	const length = (body?.length ?? 0) + BODY_HEADER_BYTES;
	const mark = output.open(tag, length);
	if (typeof body === "string") output.string(JSON_BODY, body);
	else if (body !== undefined) output.bytes(BINARY_BODY, body);
	if (contentType !== undefined && contentType !== "") output.string(CONTENT_TYPE, contentType);
	if (schema !== undefined && schema !== "") output.string(SCHEMA, schema);
	output.close(mark, length);
}
