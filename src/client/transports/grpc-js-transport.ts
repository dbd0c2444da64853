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
import { Code, ConnectError, type Transport } from "@connectrpc/connect";
import { findTrailerError } from "@connectrpc/connect/protocol-grpc";
import {
	type ChannelCredentials,
	type ChannelOptions,
	Client,
	type ClientDuplexStream,
	credentials,
	Metadata,
	type ServiceError,
	type StatusObject,
} from "@grpc/grpc-js";

export interface GrpcJsTransportOptions {
	/** `http://host:port`, `https://host:port`, or any target that grpc-js resolves. */
	readonly url: string;
	/** Default: TLS with the system's roots for `https://`, else cleartext. */
	readonly credentials?: ChannelCredentials;
	readonly channelOptions?: ChannelOptions;
}

/** A Connect transport over a grpc-js channel: for programs that have one, with its resolvers, balancing and credentials. */
export function createGrpcJsTransport(options: GrpcJsTransportOptions): Transport & { close(): void } {
	const [, scheme, host] = /^(https?):\/\/([^/]*)/.exec(options.url) ?? [];
	const fallback = scheme === "https" ? credentials.createSsl() : credentials.createInsecure();
	const channel = new Client(host ?? options.url, options.credentials ?? fallback, options.channelOptions);
	/** Every call is a duplex stream to grpc-js: unary ones too, which then need no code of their own. */
	const open = <I extends DescMessage, O extends DescMessage>(
		method: DescMethodUnary<I, O> | DescMethodStreaming<I, O>,
		signal: AbortSignal | undefined,
		timeoutMs: number | undefined,
		header: HeadersInit | undefined,
	) => {
		if (signal?.aborted) throw cancelled(signal);
		const stream = channel.makeBidiStreamRequest<MessageInitShape<I>, MessageShape<O>>(
			`/${method.parent.typeName}/${method.name}`,
			(message) => Buffer.from(toBinary(method.input, create(method.input, message))),
			(bytes) => fromBinary(method.output, bytes),
			toMetadata(header),
			timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs },
		);
		return new GrpcJsCall(stream, signal);
	};
	return {
		async unary(method, signal, timeoutMs, header, input) {
			const call = open(method, signal, timeoutMs, header);
			call.stream.end(input);
			const messages: MessageShape<typeof method.output>[] = [];
			for await (const message of call.messages()) messages.push(message);
			if (messages.length !== 1) {
				throw new ConnectError("the peer did not answer with one message", Code.Unimplemented);
			}
			const { header: responseHeader, trailer } = call;
			return {
				stream: false,
				service: method.parent,
				method,
				header: responseHeader,
				trailer,
				message: messages[0] as MessageShape<typeof method.output>,
			};
		},
		async stream(method, signal, timeoutMs, header, input) {
			const call = open(method, signal, timeoutMs, header);
			void call.upload(input);
			await call.responded;
			const { header: responseHeader, trailer } = call;
			return {
				stream: true,
				service: method.parent,
				method,
				header: responseHeader,
				trailer,
				message: call.messages(),
			};
		},
		close: () => channel.close(),
	};
}

class GrpcJsCall<Req, Res> {
	readonly stream: ClientDuplexStream<Req, Res>;
	readonly header = new Headers();
	/** Filled when the call ends. */
	readonly trailer = new Headers();
	/** Resolves when the header has come, or the call has ended. */
	readonly responded: Promise<void>;
	readonly #signal: AbortSignal | undefined;
	#ended = false;
	#failure: Error | undefined;

	constructor(stream: ClientDuplexStream<Req, Res>, signal: AbortSignal | undefined) {
		this.stream = stream;
		this.#signal = signal;
		const { promise, resolve } = Promise.withResolvers<void>();
		this.responded = promise;
		const abort = () => stream.cancel();
		signal?.addEventListener("abort", abort, { once: true });
		stream.on("metadata", (metadata) => {
			copy(metadata, this.header);
			resolve();
		});
		stream.on("status", (status: StatusObject) => {
			this.#ended = true;
			copy(status.metadata, this.trailer);
			signal?.removeEventListener("abort", abort);
			resolve();
		});
		// A reader that is there gets it from the iterator; one that comes later would wait for ever.
		stream.on("error", (error) => {
			this.#failure = error;
		});
	}

	async *messages(): AsyncGenerator<Res, void, undefined> {
		try {
			if (this.#failure !== undefined) throw this.#failure;
			for await (const message of this.stream) yield message as Res;
		} catch (error) {
			throw this.#signal?.aborted ? cancelled(this.#signal) : toConnectError(error);
		} finally {
			if (!this.#ended) this.stream.cancel();
		}
	}

	async upload(input: AsyncIterable<Req>): Promise<void> {
		try {
			for await (const message of input) {
				if (this.#ended) return;
				if (!this.stream.write(message)) await this.#drained();
			}
			this.stream.end();
		} catch {
			this.stream.cancel();
		}
	}

	#drained(): Promise<void> {
		return new Promise((resolve) => {
			const done = () => {
				this.stream.off("drain", done);
				this.stream.off("status", done);
				resolve();
			};
			if (this.#ended) return resolve();
			this.stream.once("drain", done);
			this.stream.once("status", done);
		});
	}
}

function cancelled(signal: AbortSignal): ConnectError {
	return new ConnectError("the call was cancelled", Code.Canceled, undefined, undefined, signal.reason);
}

/** grpc-js gives the status apart from the trailers; with the details it is put back as the wire has it. */
function toConnectError(error: unknown): ConnectError {
	const { code, details, metadata } = error as ServiceError;
	if (typeof code !== "number" || metadata === undefined) return ConnectError.from(error, Code.Unavailable);
	const trailer = new Headers();
	copy(metadata, trailer);
	trailer.set("grpc-status", String(code));
	trailer.set("grpc-message", encodeURIComponent(details));
	const found = findTrailerError(trailer) ?? new ConnectError(details, code as number);
	found.cause = error;
	return found;
}

function toMetadata(header: HeadersInit | undefined): Metadata {
	const metadata = new Metadata();
	if (header === undefined) return metadata;
	for (const [name, value] of new Headers(header)) {
		metadata.add(name, name.endsWith("-bin") ? Buffer.from(value, "base64") : value);
	}
	return metadata;
}

function copy(metadata: Metadata, headers: Headers): void {
	for (const name of Object.keys(metadata.getMap())) {
		for (const value of metadata.get(name)) {
			headers.append(name, typeof value === "string" ? value : value.toString("base64").replace(/=+$/, ""));
		}
	}
}
