import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
import {
	type Address,
	Durability,
	type Message,
	MessagingService,
	type SendEntry as SendEntryMessage,
	SendEntrySchema,
	type SendStreamRequest,
	SendStreamRequestSchema,
	type SendStreamResponse,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { payloadSize } from "./payload.ts";
import { decodeResults, type WireSendResults } from "./send-results.ts";
import type { SelfDecoding } from "./transports/self-decoding.ts";
import type { SelfEncoding } from "./transports/self-encoding.ts";
import { WireOutput } from "./wire-output.ts";
import { writePayload } from "./wire-payload.ts";
import { joinRanges, WireRange } from "./wire-range.ts";

/** What is expected of a field's own bytes, so that lengths are right at the first attempt. */
const HEADER_BYTES = 8;

/** The tag of `SendBatch.entries`, as which entries are written. */
const ENTRIES = 0x0a;
/** The tag of `SendStreamRequest.batch`. */
const BATCH = 0x0a;

const output = new WireOutput();

/**
 * Writes a message as an entry of a batch, at the time when it is submitted: what waits for its answer is bytes beside those of
 * others. The last byte of a one-way message is its durability, which may still be changed (`setDurability`).
 */
export function encodeSend(entryId: number, to: Address, message: Message, isRequest: boolean): WireRange {
	output.begin();
	const expected = message.id.length + message.type.length + payloadSize(message.payload) + 5 * HEADER_BYTES;
	const mark = output.open(ENTRIES, expected);
	output.uint(0x08, entryId);
	writeAddress(to);
	const inner = output.open(0x1a, expected);
	writeMessage(message);
	output.close(inner, expected);
	if (!isRequest) output.uint(0x20, Durability.TRANSIENT);
	output.close(mark, expected);
	return new WireRange(output.chunk, output.start, output.end);
}

/** Says in a one-way message how it is sent. */
export function setDurability({ chunk, end }: WireRange, isDurable: boolean): void {
	chunk[end - 1] = isDurable ? Durability.DURABLE : Durability.TRANSIENT;
}

/** A request as it is sent, with how long its sender still waits. */
export function withTimeout(range: WireRange, timeoutMs: number): WireRange {
	const entry = range.bytes;
	let header = 1;
	while (entry[header]! >= 0x80) header++;
	output.begin();
	const expected = entry.byteLength + HEADER_BYTES;
	const mark = output.open(ENTRIES, expected);
	output.append(entry.subarray(header + 1));
	output.duration(0x2a, timeoutMs);
	output.close(mark, expected);
	return new WireRange(output.chunk, output.start, output.end);
}

/** The message of an entry in wire form. */
export function decodeSend(range: WireRange): SendEntryMessage {
	const reader = new BinaryReader(range.bytes);
	reader.tag();
	return fromBinary(SendEntrySchema, reader.bytes());
}

/** A frame of entries. To a transport that wants a message it is one, whose entries are decoded when asked for. */
export class SendBatch implements SendStreamRequest {
	readonly $typeName = "qirvo.hub.v1.SendStreamRequest";
	readonly #entries: readonly WireRange[];

	constructor(entries: readonly WireRange[]) {
		this.#entries = entries;
	}

	get frame(): SendStreamRequest["frame"] {
		const entries = this.#entries.map(decodeSend);
		return { case: "batch", value: { $typeName: "qirvo.hub.v1.SendBatch", entries } };
	}

	/** The request in its wire form. */
	toBytes(): Uint8Array {
		let length = 0;
		for (const entry of this.#entries) length += entry.byteLength;
		return joinRanges(new BinaryWriter().uint32(BATCH).uint32(length).finish(), this.#entries);
	}
}

/** `SendStream`, whose frequent frames are written and read by hand: by the schema that costs several times as much. */
export const leanSendStream: typeof MessagingService.method.sendStream &
	SelfEncoding<SendStreamRequest> &
	SelfDecoding<SendStreamResponse | WireSendResults> = {
	...MessagingService.method.sendStream,
	encode: (request) => (request instanceof SendBatch ? request.toBytes() : toBinary(SendStreamRequestSchema, request)),
	decode: decodeResults,
};

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
	if (message.priority !== undefined) output.uint(0x20, message.priority);
	if (message.idempotent) output.uint(0x28, 1);
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
