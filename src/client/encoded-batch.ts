import { toBinary } from "@bufbuild/protobuf";
import { BinaryWriter } from "@bufbuild/protobuf/wire";
import {
	type EmitStreamRequest,
	EmitStreamRequestSchema,
	type Event,
	EventService,
} from "#gen/qirvo/hub/v1/event_service_pb.js";
import type { EncodedEvent } from "./event-encoder.ts";
import type { SelfEncoding } from "./transports/self-encoding.ts";
import { joinRanges } from "./wire-range.ts";

/** The tag of `EmitStreamRequest.batch_id`. */
const BATCH_ID = 0x08;

/** A batch of encoded events. To a transport that wants a message it is one, whose events are decoded when asked for. */
export class EncodedBatch implements EmitStreamRequest {
	readonly $typeName = "qirvo.hub.v1.EmitStreamRequest";
	readonly batchId: bigint;
	readonly #events: readonly EncodedEvent[];

	constructor(batchId: bigint, events: readonly EncodedEvent[]) {
		this.batchId = batchId;
		this.#events = events;
	}

	get events(): Event[] {
		return this.#events.map((event) => event.toMessage());
	}

	/** The request in its wire form. */
	toBytes(): Uint8Array {
		const writer = new BinaryWriter();
		if (this.batchId !== 0n) writer.uint32(BATCH_ID).uint64(this.batchId);
		return joinRanges(writer.finish(), this.#events);
	}
}

/** `EmitStream`, whose batches encode themselves where the transport lets them. */
export const encodedEmitStream: typeof EventService.method.emitStream & SelfEncoding<EmitStreamRequest> = {
	...EventService.method.emitStream,
	encode: (request) =>
		request instanceof EncodedBatch ? request.toBytes() : toBinary(EmitStreamRequestSchema, request),
};
