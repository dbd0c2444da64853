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

	/** The request in its wire form. Events that stand one behind the other are copied at once. */
	toBytes(): Uint8Array {
		const writer = new BinaryWriter();
		if (this.batchId !== 0n) writer.uint32(BATCH_ID).uint64(this.batchId);
		const head = writer.finish();
		let length = head.byteLength;
		for (const event of this.#events) length += event.byteLength;
		const bytes = new Uint8Array(length);
		bytes.set(head);
		let at = head.byteLength;
		for (let index = 0; index < this.#events.length; ) {
			const { chunk, start } = this.#events[index]!;
			let { end } = this.#events[index++]!;
			for (let next = this.#events[index]; next?.chunk === chunk && next.start === end; next = this.#events[++index]) {
				end = next.end;
			}
			bytes.set(chunk.subarray(start, end), at);
			at += end - start;
		}
		return bytes;
	}
}

/** `EmitStream`, whose batches encode themselves where the transport lets them. */
export const encodedEmitStream: typeof EventService.method.emitStream & SelfEncoding<EmitStreamRequest> = {
	...EventService.method.emitStream,
	encode: (request) =>
		request instanceof EncodedBatch ? request.toBytes() : toBinary(EmitStreamRequestSchema, request),
};
