import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from "node:http2";
import type { Clock } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import type { PeerInfo } from "../security/caller.ts";
import { parseGrpcTimeout } from "./call-timeout.ts";
import { toStatus } from "./error-codes.ts";
import { FastExchange } from "./fast-exchange.ts";
import { grpcTrailers } from "./grpc-trailers.ts";
import type { MountedMethod } from "./method-table.ts";
import type { Pipeline } from "./pipeline.ts";
import type { CallHeaders } from "./server-call.ts";

export interface FastLaneOptions {
	readonly methods: ReadonlyMap<string, MountedMethod>;
	readonly pipeline: Pipeline;
	readonly clock: Clock;
	/** Milliseconds a finished call may wait for a peer that does not take its answer, before the stream is reset. */
	readonly lingerMs: number;
}

/**
 * Plain gRPC straight on HTTP/2 streams: no compression, binary messages. Whatever else arrives is not taken, and the
 * Connect lane answers it.
 */
export class FastLane {
	readonly #options: FastLaneOptions;

	constructor(options: FastLaneOptions) {
		this.#options = options;
	}

	/** Answers the stream and returns true, or returns false and has not touched it. The stream has an `error` listener. */
	take(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, peer: PeerInfo): boolean {
		const contentType = headers["content-type"];
		if (contentType !== "application/grpc" && contentType !== "application/grpc+proto") return false;
		const encoding = headers["grpc-encoding"];
		if (encoding !== undefined && encoding !== "identity") return false;
		if (headers[":method"] !== "POST") return false;
		const mounted = this.#options.methods.get(headers[":path"] as string);
		// The Connect lane knows what to say about a method that does not exist.
		if (!mounted) return false;
		let callHeaders: CallHeaders;
		try {
			callHeaders = readCallHeaders(headers);
		} catch (error) {
			refuse(stream, error);
			return true;
		}
		const { pipeline, clock, lingerMs } = this.#options;
		const call = pipeline.open(mounted, "fast", callHeaders, peer);
		new FastExchange(stream, call, pipeline, clock, lingerMs).start();
		return true;
	}
}

function readCallHeaders(headers: IncomingHttpHeaders): CallHeaders {
	const timeout = headers["grpc-timeout"];
	return {
		authorization: headers.authorization,
		requestId: headers["x-request-id"] as string | undefined,
		traceparent: headers.traceparent as string | undefined,
		timeoutMs: timeout === undefined ? undefined : parseGrpcTimeout(timeout as string),
	};
}

function refuse(stream: ServerHttp2Stream, error: unknown): void {
	if (!(error instanceof HubError)) throw error;
	stream.respond(
		{ ":status": 200, "content-type": "application/grpc+proto", ...grpcTrailers(toStatus(error, "")) },
		{ endStream: true },
	);
	stream.close(constants.NGHTTP2_NO_ERROR);
}
