import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { DurationSchema, type Timestamp } from "@bufbuild/protobuf/wkt";
import {
	type AttachRequest,
	AttachRequestSchema,
	type AttachResponse,
	AttachResponseSchema,
	type Delivery,
	type DeliveryReply,
	type DeliverySettlement,
	type Message,
	MessagingService,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { LastRead } from "./last-read.ts";
import type { SelfDecoding } from "./transports/self-decoding.ts";
import type { SelfEncoding } from "./transports/self-encoding.ts";
import { WireOutput } from "./wire-output.ts";
import { readPayload, writePayload } from "./wire-payload.ts";

/** `Attach`, whose frequent frames are written and read by hand: by the schema that costs several times as much. */
export const leanAttach: typeof MessagingService.method.attach &
	SelfEncoding<AttachRequest> &
	SelfDecoding<AttachResponse> = {
	...MessagingService.method.attach,
	encode: (request) => encodeAnswer(request) ?? toBinary(AttachRequestSchema, request),
	decode: (bytes) => decodeBatch(bytes) ?? fromBinary(AttachResponseSchema, bytes),
};

const output = new WireOutput();
const text = new TextDecoder("utf-8", { ignoreBOM: true });

/** The bytes that protobuf gives for a plain reply or plain acknowledgements; undefined for any other frame. */
function encodeAnswer({ frame }: AttachRequest): Uint8Array | undefined {
	if (frame.case === "reply") {
		const { reply } = frame.value;
		if (reply === undefined || reply.error !== undefined || Object.keys(reply.attributes).length > 0) return undefined;
		output.begin();
		writeReply(frame.value, reply);
	} else if (frame.case === "settlement") {
		const { deliveries } = frame.value;
		if (!deliveries.every(({ outcome }) => outcome.case === "acknowledge" && outcome.value)) return undefined;
		output.begin();
		writeAcknowledgements(deliveries);
	} else {
		return undefined;
	}
	return output.chunk.subarray(output.start, output.end);
}

function writeReply({ deliveryId }: DeliveryReply, { success, data }: NonNullable<DeliveryReply["reply"]>): void {
	const length = (data?.body.value?.length ?? 0) + 8;
	const mark = output.open(0x1a, length + 8);
	if (deliveryId !== "") output.string(0x0a, deliveryId);
	const content = output.open(0x12, length);
	if (success) output.uint(0x08, 1);
	if (data !== undefined) writePayload(output, 0x12, data);
	output.close(content, length);
	output.close(mark, length + 8);
}

function writeAcknowledgements(deliveries: readonly DeliverySettlement[]): void {
	const length = deliveries.length * 10;
	const mark = output.open(0x12, length);
	for (const { deliveryId } of deliveries) {
		const delivery = output.open(0x0a, 0);
		if (deliveryId !== "") output.string(0x0a, deliveryId);
		output.uint(0x10, 1);
		output.close(delivery, 0);
	}
	output.close(mark, length);
}

/** A frame of deliveries without anything rare; undefined for any other. */
function decodeBatch(bytes: Uint8Array): AttachResponse | undefined {
	const reader = new BinaryReader(bytes);
	if (reader.len === 0 || !isBytes(reader.tag(), 2)) return undefined;
	if (reader.uint32() + reader.pos !== reader.len) return undefined;
	const deliveries: Delivery[] = [];
	while (reader.pos < reader.len) {
		const delivery = isBytes(reader.tag(), 1) ? readDelivery(reader, bytes) : undefined;
		if (delivery === undefined) return undefined;
		deliveries.push(delivery);
	}
	return {
		$typeName: "qirvo.hub.v1.AttachResponse",
		frame: { case: "batch", value: { $typeName: "qirvo.hub.v1.DeliveryBatch", deliveries } },
	};
}

function isBytes([field, wireType]: readonly [number, WireType], expected: number): boolean {
	return field === expected && wireType === WireType.LengthDelimited;
}

function readDelivery(reader: BinaryReader, bytes: Uint8Array): Delivery | undefined {
	const end = reader.uint32() + reader.pos;
	const delivery: Delivery = { $typeName: "qirvo.hub.v1.Delivery", deliveryId: "" };
	while (reader.pos < end) {
		const [field, wireType] = reader.tag();
		if (wireType !== WireType.LengthDelimited) return undefined;
		if (field === 1) {
			delivery.deliveryId = reader.string();
		} else if (field === 2 && delivery.message === undefined) {
			const message = readMessage(reader, bytes);
			if (message === undefined) return undefined;
			delivery.message = message;
		} else if (field === 3 && delivery.timeLeft === undefined) {
			delivery.timeLeft = fromBinary(DurationSchema, reader.bytes());
		} else {
			return undefined;
		}
	}
	return delivery;
}

/** Of a field given twice the last counts, as where the hub puts its own behind the sender's; messages would be merged. */
function readMessage(reader: BinaryReader, bytes: Uint8Array): Message | undefined {
	const end = reader.uint32() + reader.pos;
	const message: Message = {
		$typeName: "qirvo.hub.v1.Message",
		id: "",
		type: "",
		idempotent: false,
		orderingKey: "",
		attributes: {},
		source: "",
		recipient: "",
		requiresResponse: false,
		attempt: 0,
		topic: "",
	};
	while (reader.pos < end) {
		const [field, wireType] = reader.tag();
		const isRead =
			wireType === WireType.LengthDelimited
				? readBytes(reader, bytes, field, message)
				: readNumber(reader, field, wireType, message);
		if (!isRead) return undefined;
	}
	return message;
}

/** Fields that most messages of a recipient have alike. */
const lastType = new LastRead(readText);
const lastSource = new LastRead(readText);
const lastRecipient = new LastRead(readText);
const lastTime = new LastRead(readTimestamp);
const lastHubTime = new LastRead(readTimestamp);

function readBytes(reader: BinaryReader, bytes: Uint8Array, field: number, message: Message): boolean {
	if (field === 1) message.id = reader.string();
	else if (field === 2) message.type = read(lastType, reader, bytes);
	else if (field === 3 && message.time === undefined) message.time = read(lastTime, reader, bytes);
	else if (field === 6) message.orderingKey = reader.string();
	else if (field === 10 && message.payload === undefined) message.payload = readPayload(reader);
	else if (field === 16) message.source = read(lastSource, reader, bytes);
	else if (field === 17) message.recipient = read(lastRecipient, reader, bytes);
	else if (field === 18 && message.hubTime === undefined) message.hubTime = read(lastHubTime, reader, bytes);
	else return false;
	return true;
}

/** The field that the reader stands before, its tag read; `bytes` are the reader's. */
function read<T>(last: LastRead<T>, reader: BinaryReader, bytes: Uint8Array): T {
	const end = reader.uint32() + reader.pos;
	if (end > reader.len) throw new RangeError("a field ends behind its message");
	const value = last.read(bytes, reader.pos, end);
	reader.pos = end;
	return value;
}

function readText(bytes: Uint8Array): string {
	return text.decode(bytes);
}

function readTimestamp(bytes: Uint8Array): Timestamp {
	const reader = new BinaryReader(bytes);
	const end = reader.len;
	let seconds = 0n;
	let nanos = 0;
	while (reader.pos < end) {
		const [field, wireType] = reader.tag();
		if (field === 1 && wireType === WireType.Varint) seconds = BigInt(reader.int64());
		else if (field === 2 && wireType === WireType.Varint) nanos = reader.int32();
		else reader.skip(wireType, field);
	}
	return Object.freeze({ $typeName: "google.protobuf.Timestamp", seconds, nanos });
}

function readNumber(reader: BinaryReader, field: number, wireType: WireType, message: Message): boolean {
	if (wireType !== WireType.Varint) return false;
	if (field === 4) message.priority = reader.int32();
	else if (field === 5) message.idempotent = reader.bool();
	else if (field === 19) message.requiresResponse = reader.bool();
	else if (field === 20) message.attempt = reader.uint32();
	else return false;
	return true;
}
