import { type BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import type { Payload } from "#gen/qirvo/hub/v1/payload_pb.js";
import type { WireOutput } from "./wire-output.ts";

/** What is expected of a payload's own headers, so that its length is right at the first attempt. */
const HEADER_BYTES = 3;

/** The bytes that protobuf gives for the payload, without unknown fields. */
export function writePayload(output: WireOutput, tag: number, { body, contentType, schema }: Payload): void {
	const length = (body.value?.length ?? 0) + HEADER_BYTES;
	const mark = output.open(tag, length);
	if (body.case === "json") output.string(0x0a, body.value);
	else if (body.case === "binary") output.bytes(0x12, body.value);
	if (contentType !== "") output.string(0x1a, contentType);
	if (schema !== "") output.string(0x22, schema);
	output.close(mark, length);
}

/** The payload that the reader stands before, its tag read. Throws on bytes that are none. */
export function readPayload(reader: BinaryReader): Payload {
	const end = reader.uint32() + reader.pos;
	let body: Payload["body"] = { case: undefined };
	let contentType = "";
	let schema = "";
	while (reader.pos < end) {
		const [field, wireType] = reader.tag();
		if (wireType !== WireType.LengthDelimited) reader.skip(wireType, field);
		else if (field === 1) body = { case: "json", value: reader.string() };
		else if (field === 2) body = { case: "binary", value: reader.bytes() };
		else if (field === 3) contentType = reader.string();
		else if (field === 4) schema = reader.string();
		else reader.skip(wireType, field);
	}
	return { $typeName: "qirvo.hub.v1.Payload", body, contentType, schema };
}
