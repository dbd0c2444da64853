import type { OutgoingHttpHeaders } from "node:http2";
import {
	create,
	type DescMessage,
	type DescMethodStreaming,
	type DescMethodUnary,
	fromBinary,
	type MessageInitShape,
	type MessageShape,
	toBinary,
} from "@bufbuild/protobuf";
import { Code, ConnectError, type StreamResponse, type Transport, type UnaryResponse } from "@connectrpc/connect";
import { GrpcCall } from "./grpc-call.ts";
import { toFrame } from "./grpc-frames.ts";
import { type ClientTlsOptions, Http2Connection } from "./http2-connection.ts";
import { ownDecoder } from "./self-decoding.ts";
import { ownEncoder } from "./self-encoding.ts";

export interface LeanTransportOptions {
	/** `http://host:port` or `https://host:port`. */
	readonly url: string;
	readonly tls?: ClientTlsOptions;
	/** The largest message that is taken, in bytes. Default 16 MiB. */
	readonly maxMessageBytes?: number;
}

export interface LeanTransport extends Transport, AsyncDisposable {
	/** Ends every call. A later call connects again. */
	close(): void;
}

/**
 * gRPC straight on Node's HTTP/2: binary messages without compression, every kind of call, deadlines, cancellation,
 * metadata and error details. No interceptors; for those, and for other protocols, use a transport of Connect.
 */
export function createLeanTransport(options: LeanTransportOptions): LeanTransport {
	const { maxMessageBytes = 16 * 1024 * 1024 } = options;
	const connection = new Http2Connection(options.url, options.tls);
	const open = (
		method: DescMethodUnary | DescMethodStreaming,
		signal: AbortSignal | undefined,
		timeoutMs: number | undefined,
		header: HeadersInit | undefined,
	) => {
		if (signal?.aborted) {
			throw new ConnectError("the call was cancelled", Code.Canceled, undefined, undefined, signal.reason);
		}
		const stream = connection.request(requestHeaders(method, timeoutMs, header));
		const call = new GrpcCall(stream, maxMessageBytes);
		call.bound(timeoutMs, signal);
		return { stream, call };
	};
	return {
		async unary(method, signal, timeoutMs, header, input) {
			const { stream, call } = open(method, signal, timeoutMs, header);
			stream.end(encode(method.input, input));
			const bytes = await call.next();
			const rest = bytes === undefined ? undefined : await call.next();
			if (bytes === undefined || rest !== undefined) {
				const error = new ConnectError("the peer did not answer with one message", Code.Unimplemented);
				call.cancel(error);
				throw error;
			}
			return unaryResponse(method, call, fromBinary(method.output, bytes));
		},
		async stream(method, signal, timeoutMs, header, input) {
			const { stream, call } = open(method, signal, timeoutMs, header);
			void upload(method, input, stream, call);
			await call.responded();
			return streamResponse(method, call);
		},
		close: () => connection.close(),
		async [Symbol.asyncDispose]() {
			connection.close();
		},
	};
}

type RequestStream = ReturnType<Http2Connection["request"]>;

function encode<I extends DescMessage>(schema: I, input: MessageInitShape<I>): Buffer {
	return toFrame(toBinary(schema, create(schema, input)));
}

/**
 * Writes what the caller gives for as long as the call lasts, no faster than the peer takes it. What it gives in one turn
 * goes as one write, which spares both ends much of the work for small messages.
 */
async function upload<I extends DescMessage>(
	method: DescMethodStreaming<I>,
	input: AsyncIterable<MessageInitShape<I>>,
	stream: RequestStream,
	call: GrpcCall,
): Promise<void> {
	const own = ownEncoder(method);
	let corked = false;
	const uncork = () => {
		corked = false;
		stream.uncork();
	};
	try {
		for await (const message of input) {
			if (call.isDone) return;
			if (!corked) {
				corked = true;
				stream.cork();
				process.nextTick(uncork);
			}
			if (!stream.write(own ? toFrame(own(message)) : encode(method.input, message))) await drained(stream);
			if (call.isDone) return;
		}
		if (!call.isDone) stream.end();
	} catch (error) {
		call.cancel(ConnectError.from(error));
	}
}

function drained(stream: RequestStream): Promise<void> {
	return new Promise((resolve) => {
		const done = () => {
			stream.off("drain", done);
			stream.off("close", done);
			resolve();
		};
		stream.once("drain", done);
		stream.once("close", done);
	});
}

function unaryResponse<I extends DescMessage, O extends DescMessage>(
	method: DescMethodUnary<I, O>,
	call: GrpcCall,
	message: MessageShape<O>,
): UnaryResponse<I, O> {
	return {
		stream: false,
		service: method.parent,
		method,
		message,
		get header() {
			return call.header;
		},
		get trailer() {
			return call.trailer;
		},
	};
}

function streamResponse<I extends DescMessage, O extends DescMessage>(
	method: DescMethodStreaming<I, O>,
	call: GrpcCall,
): StreamResponse<I, O> {
	const leave = async () => {
		call.cancel(new ConnectError("the reader left", Code.Canceled));
		return { done: true, value: undefined } as const;
	};
	const decode = ownDecoder(method) ?? ((bytes: Uint8Array) => fromBinary(method.output, bytes));
	const messages: AsyncIterator<MessageShape<O>, undefined> = {
		async next() {
			const bytes = await call.next();
			if (bytes === undefined) return { done: true, value: undefined };
			return { done: false, value: decode(bytes) as MessageShape<O> };
		},
		return: leave,
	};
	return {
		stream: true,
		service: method.parent,
		method,
		message: { [Symbol.asyncIterator]: () => messages },
		get header() {
			return call.header;
		},
		get trailer() {
			return call.trailer;
		},
	};
}

function requestHeaders(
	method: DescMethodUnary | DescMethodStreaming,
	timeoutMs: number | undefined,
	header: HeadersInit | undefined,
): OutgoingHttpHeaders {
	const headers: OutgoingHttpHeaders = {
		":method": "POST",
		":path": `/${method.parent.typeName}/${method.name}`,
		te: "trailers",
		"content-type": "application/grpc+proto",
	};
	// At most 8 digits, so longer times are told in seconds.
	if (timeoutMs !== undefined) {
		const ms = Math.max(1, Math.ceil(timeoutMs));
		headers["grpc-timeout"] = ms < 1e8 ? `${ms}m` : `${Math.min(Math.ceil(ms / 1000), 99_999_999)}S`;
	}
	if (header !== undefined) for (const [name, value] of new Headers(header)) headers[name] = value;
	return headers;
}
