import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
	AttachResponseSchema,
	InterceptResponseSchema,
	SendStreamResponseSchema,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { Encoded } from "./call.ts";
import { streamFrames } from "./stream-frames.ts";

/** A frame in wire form. */
export function encodeFrame<D extends DescMessage>(schema: D, frame: MessageInitShape<D>): Encoded {
	return new Encoded([toBinary(schema, create(schema, frame))]);
}

/** Frames of `SendStream`. */
export const SEND_FRAMES = streamFrames((frame) => encodeFrame(SendStreamResponseSchema, { frame }));

/** Frames of `Attach`, and of `Receive`, whose frames have the same fields. */
export const DELIVERY_FRAMES = streamFrames((frame) => encodeFrame(AttachResponseSchema, { frame }));

/** Frames of `Intercept`. */
export const INTERCEPT_FRAMES = streamFrames((frame) => encodeFrame(InterceptResponseSchema, { frame }));
