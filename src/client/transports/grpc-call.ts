import { type ClientHttp2Stream, constants, type IncomingHttpHeaders } from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";
import { codeFromHttpStatus, findTrailerError } from "@connectrpc/connect/protocol-grpc";
import { FrameReader } from "./grpc-frames.ts";

/** Bytes read and not taken yet; past it the peer is made to wait. */
const HIGH_WATER_BYTES = 1024 * 1024;

/** The answering half of one gRPC call: messages in order, then its status. */
export class GrpcCall {
	readonly #stream: ClientHttp2Stream;
	readonly #reader: FrameReader;
	#messages: Uint8Array[] = [];
	#taken = 0;
	#bytes = 0;
	#header: IncomingHttpHeaders | undefined;
	#trailer: IncomingHttpHeaders | undefined;
	#done = false;
	#error: ConnectError | undefined;
	#wake: (() => void) | undefined;
	#release: (() => void) | undefined;

	constructor(stream: ClientHttp2Stream, maxMessageBytes: number) {
		this.#stream = stream;
		this.#reader = new FrameReader(maxMessageBytes);
		stream.on("error", (error) => this.#finish(transportError(error)));
		stream.once("response", (header) => this.#respond(header));
		stream.once("trailers", (trailer) => {
			this.#trailer = trailer;
		});
		stream.on("data", (chunk: Buffer) => this.#read(chunk));
		stream.once("end", () => this.#finish(this.#status()));
		stream.once("close", () => this.#finish(this.#status()));
	}

	get isDone(): boolean {
		return this.#done;
	}

	get header(): Headers {
		return toHeaders(this.#header);
	}

	get trailer(): Headers {
		return toHeaders(this.#trailer);
	}

	/** Ends the call after a time or on a signal. Each is let go of when the call ends. */
	bound(timeoutMs: number | undefined, signal: AbortSignal | undefined): void {
		if (this.#done) return;
		const abort = () =>
			this.cancel(new ConnectError("the call was cancelled", Code.Canceled, undefined, undefined, signal?.reason));
		const expire = () => this.cancel(new ConnectError("the operation timed out", Code.DeadlineExceeded));
		const timer = timeoutMs === undefined ? undefined : setTimeout(expire, Math.min(timeoutMs, 2 ** 31 - 1));
		signal?.addEventListener("abort", abort, { once: true });
		this.#release = () => {
			clearTimeout(timer);
			signal?.removeEventListener("abort", abort);
		};
		if (signal?.aborted) abort();
	}

	/** Ends the call; the peer is told. */
	cancel(error: ConnectError): void {
		if (this.#done) return;
		this.#messages = [];
		this.#taken = 0;
		this.#finish(error);
	}

	/** Resolves when the header has come, or the call has ended. */
	async responded(): Promise<void> {
		while (this.#header === undefined && !this.#done) await this.#sleep();
	}

	/** The next message; undefined at the end. Rejects with the status where it is not OK. */
	async next(): Promise<Uint8Array | undefined> {
		while (true) {
			if (this.#taken < this.#messages.length) return this.#take();
			if (this.#error) throw this.#error;
			if (this.#done) return undefined;
			await this.#sleep();
		}
	}

	#take(): Uint8Array {
		const message = this.#messages[this.#taken++]!;
		if (this.#taken === this.#messages.length) {
			this.#messages = [];
			this.#taken = 0;
		}
		this.#bytes -= message.byteLength;
		if (this.#bytes < HIGH_WATER_BYTES && this.#stream.isPaused()) this.#stream.resume();
		return message;
	}

	#sleep(): Promise<void> {
		return new Promise((resolve) => {
			this.#wake = resolve;
		});
	}

	#respond(header: IncomingHttpHeaders): void {
		this.#header = header;
		this.#notify();
	}

	#read(chunk: Buffer): void {
		if (this.#done) return;
		if (Number(this.#header?.[":status"]) !== 200) return;
		const before = this.#messages.length;
		try {
			this.#reader.push(chunk, this.#messages);
		} catch (error) {
			this.cancel(ConnectError.from(error));
			return;
		}
		for (let index = before; index < this.#messages.length; index++) this.#bytes += this.#messages[index]!.byteLength;
		if (this.#bytes >= HIGH_WATER_BYTES) this.#stream.pause();
		if (this.#messages.length > before) this.#notify();
	}

	#status(): ConnectError | undefined {
		const header = this.#header;
		if (header === undefined) return new ConnectError("the connection was lost", Code.Unavailable);
		const status = Number(header[":status"]);
		const trailer = this.#trailer ?? header;
		if (trailer["grpc-status"] === undefined) {
			if (status !== 200) return new ConnectError(`HTTP ${status}`, codeFromHttpStatus(status));
			const { rstCode = 0 } = this.#stream;
			return resetError(rstCode) ?? new ConnectError("the connection was lost", Code.Unavailable);
		}
		if (trailer["grpc-status"] !== "0") return findTrailerError(toHeaders(trailer));
		if (this.#reader.isInside) return new ConnectError("the last message is cut off", Code.Internal);
		return undefined;
	}

	#finish(error: ConnectError | undefined): void {
		if (this.#done) return;
		this.#done = true;
		this.#error = error;
		this.#release?.();
		const stream = this.#stream;
		if (!stream.destroyed) {
			if (stream.readableEnded && !error) stream.end();
			// Of no effect where the stream has ended by itself.
			stream.close(error ? constants.NGHTTP2_CANCEL : constants.NGHTTP2_NO_ERROR);
		}
		this.#notify();
	}

	#notify(): void {
		const wake = this.#wake;
		this.#wake = undefined;
		wake?.();
	}
}

/** A stream or session that broke: no status of the peer is known. */
function transportError(error: Error): ConnectError {
	return new ConnectError(error.message, Code.Unavailable, undefined, undefined, error);
}

/** What the gRPC specification makes of a reset that carries no status. */
function resetError(code: number): ConnectError | undefined {
	if (code === constants.NGHTTP2_NO_ERROR) return undefined;
	if (code === constants.NGHTTP2_CANCEL) return new ConnectError("the peer cancelled the stream", Code.Unavailable);
	if (code === constants.NGHTTP2_REFUSED_STREAM)
		return new ConnectError("the peer refused the stream", Code.Unavailable);
	if (code === constants.NGHTTP2_ENHANCE_YOUR_CALM) {
		return new ConnectError("the peer asks to go slower", Code.ResourceExhausted);
	}
	if (code === constants.NGHTTP2_INADEQUATE_SECURITY) {
		return new ConnectError("the connection is not secure enough", Code.PermissionDenied);
	}
	return new ConnectError(`the stream was reset with code ${code}`, Code.Internal);
}

function toHeaders(incoming: IncomingHttpHeaders | undefined): Headers {
	const headers = new Headers();
	for (const [name, value] of Object.entries(incoming ?? {})) {
		if (name.startsWith(":") || value === undefined) continue;
		for (const one of Array.isArray(value) ? value : [value]) headers.append(name, one);
	}
	return headers;
}
