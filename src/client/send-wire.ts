import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { EntryErrorSchema } from "#gen/qirvo/hub/v1/errors_pb.js";
import {
	type Address,
	type Message,
	MessagingService,
	RequestResponseSchema,
	type SendEntry,
	type SendResponse,
	type SendResult,
	type SendStreamRequest,
	SendStreamRequestSchema,
	type SendStreamResponse,
	SendStreamResponseSchema,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { SelfDecoding } from "./transports/self-decoding.ts";
import type { SelfEncoding } from "./transports/self-encoding.ts";
import { WireOutput } from "./wire-output.ts";
import { writePayload } from "./wire-payload.ts";

/** What is expected of a field's own bytes, so that lengths are right at the first attempt. */
const HEADER_BYTES = 8;

/** `SendStream`, whose frequent frames are written and read by hand: by the schema that costs several times as much. */
export const leanSendStream: typeof MessagingService.method.sendStream &
	SelfEncoding<SendStreamRequest> &
	SelfDecoding<SendStreamResponse> = {
	...MessagingService.method.sendStream,
	encode: encodeSends,
	decode: decodeResults,
};

const output = new WireOutput();

/** The bytes that protobuf gives for the request, as long as its messages have what a sender may set, and no unknown fields. */
export function encodeSends(request: SendStreamRequest): Uint8Array {
	if (request.frame.case !== "batch") return toBinary(SendStreamRequestSchema, request);
	const { entries } = request.frame.value;
	output.begin();
	// Batches differ too much for a guess; one that is off costs a move of all that is in it.
	const expected = entries.length * entrySize(entries[0]);
	const batch = output.open(0x0a, expected);
	for (const entry of entries) writeEntry(entry);
	output.close(batch, expected);
	return output.chunk.subarray(output.start, output.end);
}

function entrySize(entry: SendEntry | undefined): number {
	const message = entry?.message;
	if (message === undefined) return 0;
	return message.id.length + message.type.length + (message.payload?.body.value?.length ?? 0) + 5 * HEADER_BYTES;
}

function writeEntry(entry: SendEntry): void {
	const { entryId, to, message, durability, requestTimeout } = entry;
	const expected = entrySize(entry);
	const mark = output.open(0x0a, expected);
	if (entryId !== 0n) output.number(0x08, Number(entryId));
	if (to !== undefined) writeAddress(to);
	if (message !== undefined) {
		const inner = output.open(0x1a, expected);
		writeMessage(message);
		output.close(inner, expected);
	}
	if (durability !== undefined) output.number(0x20, durability);
	if (requestTimeout !== undefined) output.time(0x2a, Number(requestTimeout.seconds), requestTimeout.nanos);
	output.close(mark, expected);
}

const ADDRESS_TAGS = { pluginId: 0x0a, capability: 0x12, alias: 0x1a } as const;

function writeAddress({ target }: Address): void {
	const length = target.value?.length ?? 0;
	const mark = output.open(0x12, length);
	if (target.case !== undefined) output.string(ADDRESS_TAGS[target.case], target.value);
	output.close(mark, length);
}

function writeMessage(message: Message): void {
	const { time, ttl, deliverAt, attributes } = message;
	if (message.id !== "") output.string(0x0a, message.id);
	if (message.type !== "") output.string(0x12, message.type);
	if (time !== undefined) output.time(0x1a, Number(time.seconds), time.nanos);
	if (message.priority !== undefined) output.number(0x20, message.priority);
	if (message.idempotent) output.number(0x28, 1);
	if (message.orderingKey !== "") output.string(0x32, message.orderingKey);
	if (ttl !== undefined) output.time(0x3a, Number(ttl.seconds), ttl.nanos);
	if (deliverAt !== undefined) output.time(0x42, Number(deliverAt.seconds), deliverAt.nanos);
	for (const key in attributes) {
		const mark = output.open(0x4a, 0);
		output.string(0x0a, key);
		output.string(0x12, attributes[key]!);
		output.close(mark, 0);
	}
	if (message.payload !== undefined) writePayload(output, 0x52, message.payload);
}

/** A frame of results, or any other by the schema. Throws on bytes that are none. */
export function decodeResults(bytes: Uint8Array): SendStreamResponse {
	const reader = new BinaryReader(bytes);
	const results: SendResult[] = [];
	while (reader.pos < reader.len) {
		const [field, wireType] = reader.tag();
		if (field !== 2 || wireType !== WireType.LengthDelimited) return fromBinary(SendStreamResponseSchema, bytes);
		const batchEnd = reader.uint32() + reader.pos;
		while (reader.pos < batchEnd) {
			const [inner, innerType] = reader.tag();
			if (inner === 1 && innerType === WireType.LengthDelimited) results.push(readResult(reader));
			else reader.skip(innerType, inner);
		}
	}
	if (results.length === 0) return fromBinary(SendStreamResponseSchema, bytes);
	return {
		$typeName: "qirvo.hub.v1.SendStreamResponse",
		frame: { case: "results", value: { $typeName: "qirvo.hub.v1.SendResultBatch", results } },
	};
}

function readResult(reader: BinaryReader): SendResult {
	const end = reader.uint32() + reader.pos;
	let entryId = 0n;
	let outcome: SendResult["outcome"] = { case: undefined };
	while (reader.pos < end) {
		const [field, wireType] = reader.tag();
		if (field === 1 && wireType === WireType.Varint) entryId = readUint64(reader);
		else if (wireType !== WireType.LengthDelimited) reader.skip(wireType, field);
		else if (field === 2) outcome = { case: "accepted", value: readAccepted(reader) };
		else if (field === 3) outcome = { case: "reply", value: fromBinary(RequestResponseSchema, reader.bytes()) };
		else if (field === 4) outcome = { case: "error", value: fromBinary(EntryErrorSchema, reader.bytes()) };
		else reader.skip(wireType, field);
	}
	return { $typeName: "qirvo.hub.v1.SendResult", entryId, outcome };
}

/** A uint64 of up to 28 bits without a detour. */
function readUint64(reader: BinaryReader): bigint {
	const start = reader.pos;
	const low = reader.uint32();
	if (reader.pos - start <= 4) return BigInt(low);
	reader.pos = start;
	return BigInt(reader.uint64());
}

function readAccepted(reader: BinaryReader): SendResponse {
	const end = reader.uint32() + reader.pos;
	let id = "";
	let disposition = 0;
	let duplicate = false;
	while (reader.pos < end) {
		const [field, wireType] = reader.tag();
		if (field === 1 && wireType === WireType.LengthDelimited) id = reader.string();
		else if (field === 2 && wireType === WireType.Varint) disposition = reader.int32();
		else if (field === 3 && wireType === WireType.Varint) duplicate = reader.bool();
		else reader.skip(wireType, field);
	}
	return { $typeName: "qirvo.hub.v1.SendResponse", id, disposition, duplicate };
}
