import { create, toBinary } from "@bufbuild/protobuf";
import { EchoRequestSchema } from "./gen/echo_pb.js";
import { grpcFrame, type RawRequest } from "./raw-grpc.ts";

export const SERVICE = "/test.echo.v1.EchoService";
export const MAX = 64 * 1024;

export const message = (init: { text?: string; data?: Uint8Array; count?: number }) =>
	toBinary(EchoRequestSchema, create(EchoRequestSchema, init));
export const frameOf = (init: Parameters<typeof message>[0]) => grpcFrame(message(init));
export const slices = (bytes: Buffer, size: number) =>
	Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) =>
		bytes.subarray(index * size, (index + 1) * size),
	);

/** A call, and what a lane must say to it. */
export interface LaneCase extends RawRequest {
	readonly name: string;
	/** What both lanes must say. */
	readonly status: string | undefined;
	readonly reason?: string;
	readonly details?: readonly string[];
	readonly texts?: readonly string[];
}

export const unary = `${SERVICE}/Unary`;
export const server = `${SERVICE}/Server`;
export const bidi = `${SERVICE}/Bidi`;
export const info = ["google.rpc.ErrorInfo"];
