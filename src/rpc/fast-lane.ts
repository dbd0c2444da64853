import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import type { Clock } from "../clock/clock.ts";
import type { PeerInfo } from "../security/caller.ts";
import { readCallHeaders } from "./call-headers.ts";
import { FastExchange } from "./fast-exchange.ts";
import type { MountedMethod } from "./method-table.ts";
import type { Pipeline } from "./pipeline.ts";

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
		const { pipeline, clock, lingerMs } = this.#options;
		const call = pipeline.open(mounted, "fast", readCallHeaders(headers), peer);
		new FastExchange(stream, call, pipeline, clock, lingerMs).start();
		return true;
	}
}
