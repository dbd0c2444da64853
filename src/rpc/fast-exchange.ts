import { constants, type ServerHttp2Stream } from "node:http2";
import type { Clock, Timer } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import { Encoded } from "./call.ts";
import { cutOffUpload } from "./cut-off-upload.ts";
import { FrameReader, wholeMessage } from "./frame-reader.ts";
import { grpcTrailers, OK_TRAILERS } from "./grpc-trailers.ts";
import { decodeRequest, encodeResponse } from "./message-codec.ts";
import type { Pipeline } from "./pipeline.ts";
import { releaseIterator } from "./release-iterator.ts";
import { RequestStream, truncated } from "./request-stream.ts";
import type { ServerCall } from "./server-call.ts";

const RESPONSE_HEADERS = Object.freeze({ ":status": 200, "content-type": "application/grpc+proto" });
const WAIT_FOR_TRAILERS = Object.freeze({ waitForTrailers: true });
const PREFIX_BYTES = 5;

/** A whole request of up to this many bytes is not counted as held. */
const UNCOUNTED_BYTES = 1024;

/** Responses up to this many bytes are copied behind their prefix; larger ones are written in parts, uncopied. */
const COALESCE_BYTES = 32 * 1024;

/** One call on the fast lane, from its headers to its trailers. */
export class FastExchange {
	readonly #stream: ServerHttp2Stream;
	readonly #call: ServerCall;
	readonly #pipeline: Pipeline;
	readonly #clock: Clock;
	readonly #lingerMs: number;
	/** Made only where a request does not come as one chunk. */
	#frames: FrameReader | undefined;
	#message: Uint8Array | undefined;
	#requests: RequestStream<unknown> | undefined;
	#responses: AsyncIterator<unknown> | undefined;
	#trailers: Readonly<Record<string, string>> = OK_TRAILERS;
	#finished = false;
	#writable: (() => void) | undefined;
	#linger: Timer | undefined;

	constructor(stream: ServerHttp2Stream, call: ServerCall, pipeline: Pipeline, clock: Clock, lingerMs: number) {
		this.#stream = stream;
		this.#call = call;
		this.#pipeline = pipeline;
		this.#clock = clock;
		this.#lingerMs = lingerMs;
	}

	/** Admits the call and only then reads its body, so that a caller who is refused makes the hub keep nothing. */
	start(): void {
		const call = this.#call;
		this.#stream.on("close", () => this.#closed());
		call.onAbort = (reason) => this.#fail(reason);
		try {
			const admitted = this.#pipeline.admit(call);
			if (admitted)
				admitted.then(
					() => this.#receive(),
					(error) => this.#fail(error),
				);
			else this.#receive();
		} catch (error) {
			this.#fail(error);
		}
	}

	#receive(): void {
		if (this.#finished) return;
		const stream = this.#stream;
		if (this.#call.mounted.descriptor.methodKind === "bidi_streaming") {
			this.#receiveStream();
		} else {
			stream.on("data", (chunk: Buffer) => this.#receiveOne(chunk));
			this.#onRequestEnd(() => this.#receivedOne());
		}
	}

	/** A request without a body ends with its headers, which may be before its caller is known and anybody listens. */
	#onRequestEnd(run: () => void): void {
		if (this.#stream.readableEnded) run();
		else this.#stream.on("end", run);
	}

	#receiveOne(chunk: Buffer): void {
		if (this.#finished) return;
		const { maxRequestBytes } = this.#call.mounted;
		const isFirst = !this.#message && !this.#frames;
		if (isFirst) this.#message = wholeMessage(chunk, maxRequestBytes);
		const isWhole = isFirst && this.#message !== undefined;
		// A small one that is whole takes no more than the stream it came on, and those are bounded.
		if (isWhole && chunk.byteLength <= UNCOUNTED_BYTES) return;
		try {
			this.#pipeline.hold(this.#call, this.#call.heldBytes + chunk.byteLength);
			if (isWhole) return;
			this.#frames ??= new FrameReader(maxRequestBytes);
			this.#frames.push(chunk, (message) => {
				if (this.#message) throw new HubError("MALFORMED_REQUEST", "this call takes one request message, not several");
				this.#message = message;
			});
		} catch (error) {
			this.#fail(error);
		}
	}

	#receivedOne(): void {
		if (this.#finished) return;
		const call = this.#call;
		const { mounted } = call;
		call.isReceived = true;
		try {
			if (this.#frames?.partial) throw truncated();
			if (!this.#message) throw new HubError("MALFORMED_REQUEST", "the request message is missing");
			const request = decodeRequest(mounted, this.#message);
			this.#message = undefined;
			this.#pipeline.hold(call, 0);
			if (mounted.descriptor.methodKind === "unary") {
				mounted.handle(request, call).then(
					(response: unknown) => this.#respond(response),
					(error: unknown) => this.#fail(error),
				);
			} else {
				void this.#pump(mounted.handle(request, call));
			}
		} catch (error) {
			this.#fail(error);
		}
	}

	#receiveStream(): void {
		const { mounted } = this.#call;
		const stream = this.#stream;
		const requests = new RequestStream<unknown>(stream, (message) => decodeRequest(mounted, message));
		this.#requests = requests;
		const frames = new FrameReader(mounted.maxRequestBytes);
		const push = (message: Uint8Array) => requests.push(message);
		stream.on("data", (chunk: Buffer) => {
			if (this.#finished) return;
			try {
				frames.push(chunk, push);
				this.#pipeline.hold(this.#call, frames.pendingBytes);
			} catch (error) {
				requests.end(error);
			}
		});
		this.#onRequestEnd(() => requests.end(frames.partial ? truncated() : undefined));
		try {
			void this.#pump(mounted.handle(requests, this.#call));
		} catch (error) {
			this.#fail(error);
		}
	}

	#respond(response: unknown): void {
		if (this.#finished) return;
		try {
			const encoded = encodeResponse(this.#call.mounted, response);
			this.#sendHeaders();
			this.#finished = true;
			this.#pipeline.close(this.#call, 0);
			if (encoded.byteLength > COALESCE_BYTES) {
				this.#writeParts(encoded);
				this.#stream.end();
			} else {
				this.#stream.end(frame(encoded));
			}
			this.#lingerUntilTaken();
		} catch (error) {
			this.#fail(error);
		}
	}

	/** Pulls the next response when the peer can take more. */
	async #pump(responses: AsyncIterable<unknown>): Promise<void> {
		try {
			const iterator = responses[Symbol.asyncIterator]();
			this.#responses = iterator;
			while (true) {
				const { done, value } = await iterator.next();
				if (this.#finished) return;
				if (done) break;
				const encoded = encodeResponse(this.#call.mounted, value);
				this.#sendHeaders();
				const more =
					encoded.byteLength > COALESCE_BYTES ? this.#writeParts(encoded) : this.#stream.write(frame(encoded));
				if (!more) await this.#drained();
				if (this.#finished) return;
			}
			this.#responses = undefined;
			this.#pipeline.close(this.#call, 0);
			this.#finish(OK_TRAILERS);
		} catch (error) {
			this.#responses = undefined;
			this.#fail(error);
		}
	}

	#writeParts(encoded: Encoded | Uint8Array): boolean {
		const stream = this.#stream;
		stream.cork();
		let more = stream.write(prefix(encoded.byteLength));
		for (const part of encoded instanceof Encoded ? encoded.parts : [encoded]) more = stream.write(part);
		stream.uncork();
		return more;
	}

	#drained(): Promise<void> {
		if (!this.#writable) this.#stream.on("drain", () => this.#writable?.());
		return new Promise((resolve) => {
			this.#writable = resolve;
		});
	}

	#sendHeaders(): void {
		const stream = this.#stream;
		// A stream is gone some ticks before its `close` event says so.
		if (stream.destroyed || stream.closed) throw new HubError("CANCELLED", "the caller went away");
		if (stream.headersSent) return;
		stream.respond(RESPONSE_HEADERS, WAIT_FOR_TRAILERS);
		stream.on("wantTrailers", () => this.#sendTrailers());
	}

	#fail(error: unknown): void {
		if (this.#finished) return;
		const status = this.#pipeline.fail(this.#call, error);
		this.#finish(grpcTrailers(status));
	}

	/** Ends the stream with `trailers`, or with a lone header block where nothing was sent yet. */
	#finish(trailers: Readonly<Record<string, string>>): void {
		if (this.#finished) return;
		this.#finished = true;
		this.#trailers = trailers;
		const stream = this.#stream;
		if (stream.destroyed || stream.closed) return;
		if (stream.headersSent) {
			stream.end();
		} else {
			stream.respond({ ...RESPONSE_HEADERS, ...trailers }, { endStream: true });
			cutOffUpload(this.#stream, this.#clock);
		}
		this.#lingerUntilTaken();
		this.#release();
	}

	#sendTrailers(): void {
		this.#stream.sendTrailers(this.#trailers);
		cutOffUpload(this.#stream, this.#clock);
	}

	/** A peer that never takes the rest of its answer must not keep the stream for ever. */
	#lingerUntilTaken(): void {
		if (this.#stream.writableLength === 0) return;
		this.#linger = this.#clock.after(this.#lingerMs, () => this.#stream.close(constants.NGHTTP2_CANCEL));
	}

	#closed(): void {
		this.#linger?.cancel();
		if (!this.#finished) {
			const reason = new HubError("CANCELLED", "the caller went away");
			// Aborting ends the exchange through `onAbort`.
			this.#call.abort(reason);
			this.#fail(reason);
		}
		this.#release();
	}

	/** Lets go of the handler: its iterators end, and a pump that waits for the peer wakes. */
	#release(): void {
		this.#requests?.end(this.#call.abortReason);
		const responses = this.#responses;
		this.#responses = undefined;
		void releaseIterator(responses);
		this.#writable?.();
	}
}

function prefix(length: number): Buffer {
	const bytes = Buffer.allocUnsafe(PREFIX_BYTES);
	bytes[0] = 0;
	bytes.writeUInt32BE(length, 1);
	return bytes;
}

function frame(encoded: Encoded | Uint8Array): Buffer {
	const length = encoded.byteLength;
	const bytes = Buffer.allocUnsafe(PREFIX_BYTES + length);
	bytes[0] = 0;
	bytes[1] = length >>> 24;
	bytes[2] = length >>> 16;
	bytes[3] = length >>> 8;
	bytes[4] = length;
	if (encoded instanceof Encoded) {
		let offset = PREFIX_BYTES;
		for (const part of encoded.parts) {
			bytes.set(part, offset);
			offset += part.byteLength;
		}
	} else {
		bytes.set(encoded, PREFIX_BYTES);
	}
	return bytes;
}
