import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { AttachResponseSchema, SendStreamResponseSchema } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { Encoded } from "./call.ts";
import { HEARTBEAT_MS, type StreamFrames } from "./pulled-stream.ts";

/** A frame in wire form. */
export function encodeFrame<D extends DescMessage>(schema: D, frame: MessageInitShape<D>): Encoded {
	return new Encoded([toBinary(schema, create(schema, frame))]);
}

/** The first frame of a stream as the `ready` of its response. */
export function readyFrame(id: string) {
	return { case: "ready", value: { id, heartbeatInterval: durationFromMs(HEARTBEAT_MS) } } as const;
}

/** Frames of `SendStream`. */
export const SEND_FRAMES: StreamFrames = Object.freeze({
	heartbeat: encodeFrame(SendStreamResponseSchema, { frame: { case: "heartbeat", value: {} } }),
	draining: encodeFrame(SendStreamResponseSchema, { frame: { case: "draining", value: {} } }),
	revoked: ({ reason, message }) =>
		encodeFrame(SendStreamResponseSchema, { frame: { case: "revoked", value: { reason, message } } }),
} satisfies StreamFrames);

/** Frames of `Attach`, and of `Receive`, whose frames have the same fields. */
export const DELIVERY_FRAMES: StreamFrames = Object.freeze({
	heartbeat: encodeFrame(AttachResponseSchema, { frame: { case: "heartbeat", value: {} } }),
	draining: encodeFrame(AttachResponseSchema, { frame: { case: "draining", value: {} } }),
	revoked: ({ reason, message }) =>
		encodeFrame(AttachResponseSchema, { frame: { case: "revoked", value: { reason, message } } }),
} satisfies StreamFrames);
