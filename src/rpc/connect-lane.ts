import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import { type DescMethod, toBinary } from "@bufbuild/protobuf";
import {
	ConnectError,
	type ConnectRouterOptions,
	createConnectRouter,
	createContextKey,
	createContextValues,
	type HandlerContext,
} from "@connectrpc/connect";
import type { UniversalHandler, UniversalServerRequest } from "@connectrpc/connect/protocol";
import type { Clock } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import type { PeerInfo } from "../security/caller.ts";
import { readCallHeaders } from "./call-headers.ts";
import { COMPRESSIONS } from "./compressions.ts";
import { describeUnaryError, fromLibrary, toConnectError } from "./connect-errors.ts";
import { endExchange, readBody, webHeaders, writeResponse } from "./connect-http.ts";
import { gatherAll, gatherEnvelopes } from "./gather-body.ts";
import { responseMessage } from "./message-codec.ts";
import type { MountedMethod } from "./method-table.ts";
import type { Pipeline } from "./pipeline.ts";
import { releaseIterator } from "./release-iterator.ts";
import type { ServerCall } from "./server-call.ts";
import { answerUnknownMethod } from "./unknown-method.ts";

export interface ConnectLaneOptions {
	readonly methods: ReadonlyMap<string, MountedMethod>;
	readonly pipeline: Pipeline;
	readonly clock: Clock;
	/** Milliseconds a finished call may wait for a peer that does not take its answer, before it is given up. */
	readonly lingerMs: number;
}

/** An RPC as the library serves it. */
interface Entry {
	readonly mounted: MountedMethod;
	/** For every protocol that frames its messages. */
	readonly framed: UniversalHandler;
	/** For Connect's unary form, whose body is the bare message. */
	readonly bare: UniversalHandler | undefined;
}

/** The call that a request to the library belongs to. */
const CALL = createContextKey<ServerCall | undefined>(undefined);

/** Responses smaller than this many bytes are not compressed. */
const COMPRESS_MIN_BYTES = 1024;

/** The most bytes one response message may have. */
const WRITE_MAX_BYTES = 64 * 1024 * 1024;

/** How the metrics count a request that is refused before it is an RPC, such as one of an unknown content type. */
const INVALID_ARGUMENT = 3;

/**
 * Every protocol the Connect library speaks: Connect, gRPC-Web and gRPC, JSON and binary, HTTP/1.1 and HTTP/2,
 * compression. The services, the pipeline and the answers are those of the fast lane.
 *
 * The framed protocols do not distinguish the four kinds of RPC on the wire, so the library is told that every RPC is a
 * bidi stream. That way what it finds wrong with a request reaches `#stream` as a failed read, and not the peer in the
 * library's own words.
 */
export class ConnectLane {
	readonly #pipeline: Pipeline;
	readonly #clock: Clock;
	readonly #lingerMs: number;
	readonly #entries = new Map<string, Entry>();

	constructor(options: ConnectLaneOptions) {
		this.#pipeline = options.pipeline;
		this.#clock = options.clock;
		this.#lingerMs = options.lingerMs;
		const common: ConnectRouterOptions = {
			acceptCompression: [...COMPRESSIONS],
			compressMinBytes: COMPRESS_MIN_BYTES,
			writeMaxBytes: WRITE_MAX_BYTES,
			jsonOptions: { ignoreUnknownFields: false },
			requestGate: (context) => this.#admit(context.values.get(CALL)!),
		};
		for (const mounted of options.methods.values()) {
			const { descriptor, maxRequestBytes } = mounted;
			const unary = descriptor.methodKind === "unary";
			const asBidi = Object.create(descriptor, { methodKind: { value: "bidi_streaming" } }) as DescMethod;
			const framed = createConnectRouter({ ...common, readMaxBytes: maxRequestBytes, connect: !unary });
			framed.rpc(asBidi, ((requests: AsyncIterable<unknown>, context: HandlerContext) =>
				this.#stream(mounted, requests, context)) as never);
			const bare = createConnectRouter({ ...common, readMaxBytes: maxRequestBytes, grpc: false, grpcWeb: false });
			if (unary) {
				bare.rpc(descriptor, ((request: unknown, context: HandlerContext) =>
					this.#unary(mounted, request, context)) as never);
			}
			this.#entries.set(mounted.path, { mounted, framed: framed.handlers[0]!, bare: bare.handlers[0] });
		}
	}

	/** Answers a request. Never throws and never rejects, whatever the peer sent. */
	async answer(
		request: IncomingMessage | Http2ServerRequest,
		response: ServerResponse | Http2ServerResponse,
		peer: PeerInfo,
	): Promise<void> {
		// Without a listener, a peer that resets its stream is an uncaught exception.
		request.on("error", () => {});
		response.on("error", () => {});
		const url = request.url ?? "";
		const query = url.indexOf("?");
		const entry = this.#entries.get(query < 0 ? url : url.slice(0, query));
		if (!entry) {
			answerUnknownMethod(request, response);
			return;
		}
		const { mounted } = entry;
		const pipeline = this.#pipeline;
		const call = pipeline.open(mounted, "connect", readCallHeaders(request.headers), peer);
		response.once("close", () => call.abort(new HubError("CANCELLED", "the caller went away")));
		try {
			const contentType = String(request.headers["content-type"] ?? "");
			const bare = contentType.startsWith("application/grpc") ? undefined : entry.bare;
			// A bidi stream needs a transport that carries both directions at once.
			const half = request.httpVersion.startsWith("1.") && mounted.descriptor.methodKind === "bidi_streaming";
			const held = (bytes: number) => holdOrAbort(pipeline, call, bytes);
			const chunks = readBody(request, call.signal, () => call.abortReason);
			const isFramed = contentType.startsWith("application/grpc") || contentType.startsWith("application/connect+");
			const gather = isFramed ? gatherEnvelopes : gatherAll;
			let answer = await (bare ?? entry.framed)({
				...universalRequest(request, url, call),
				body: gather(chunks, mounted.maxRequestBytes, held),
				httpVersion: half ? request.httpVersion : "2.0",
			});
			if (bare && answer.status >= 400 && answer.body) {
				answer = await describeUnaryError(answer, (code, message) =>
					pipeline.fail(call, fromLibrary(mounted, code, message)),
				);
			}
			// Anything that was not closed by its handler was refused before it was an RPC.
			if (answer.status >= 400) pipeline.close(call, INVALID_ARGUMENT);
			await writeResponse(answer, response, call.signal);
			endExchange(request, response, this.#clock, this.#lingerMs);
		} catch (error) {
			// The response cannot be written any more, or has begun: all that is left is to log and to hang up.
			pipeline.fail(call, error);
			response.destroy();
		}
		// A peer that went away during a write leaves a call that nobody has ended.
		if (call.abortReason) pipeline.fail(call, call.abortReason);
		else pipeline.close(call, 0);
	}

	async #admit(call: ServerCall): Promise<void> {
		try {
			await this.#pipeline.admit(call);
		} catch (error) {
			throw toConnectError(this.#pipeline.fail(call, error));
		}
	}

	async #unary(mounted: MountedMethod, request: unknown, context: HandlerContext): Promise<unknown> {
		const call = context.values.get(CALL)!;
		call.isReceived = true;
		try {
			const message = responseMessage(
				mounted,
				await unlessAborted(call, mounted.handle(toInput(mounted, request), call)),
			);
			this.#pipeline.close(call, 0);
			return message;
		} catch (error) {
			throw toConnectError(this.#pipeline.fail(call, error));
		}
	}

	/** An RPC of any kind, seen as a stream of requests and a stream of responses. */
	async *#stream(
		mounted: MountedMethod,
		requests: AsyncIterable<unknown>,
		context: HandlerContext,
	): AsyncGenerator<unknown> {
		const call = context.values.get(CALL)!;
		const { methodKind } = mounted.descriptor;
		const inputs = readRequests(mounted, requests);
		let responses: AsyncIterator<unknown> | undefined;
		try {
			if (methodKind === "unary") {
				const input = await unlessAborted(call, single(inputs));
				call.isReceived = true;
				const message = responseMessage(mounted, await unlessAborted(call, mounted.handle(input, call)));
				this.#pipeline.close(call, 0);
				yield message;
				return;
			}
			const input = methodKind === "bidi_streaming" ? inputs : await unlessAborted(call, single(inputs));
			call.isReceived = true;
			responses = (mounted.handle(input, call) as AsyncIterable<unknown>)[Symbol.asyncIterator]();
			while (true) {
				const { done, value } = await unlessAborted(call, responses.next());
				if (done) break;
				yield responseMessage(mounted, value);
			}
			responses = undefined;
			this.#pipeline.close(call, 0);
		} catch (error) {
			throw toConnectError(this.#pipeline.fail(call, error));
		} finally {
			void releaseIterator(responses);
			// Where the peer went away while a response was being written, nothing else ends the call.
			call.abort(new HubError("CANCELLED", "the caller went away"));
		}
	}
}

/** The requests as the handler takes them; what the library finds wrong with them, in the hub's terms. */
async function* readRequests(mounted: MountedMethod, requests: AsyncIterable<unknown>): AsyncGenerator<unknown> {
	const iterator = requests[Symbol.asyncIterator]();
	while (true) {
		let result: IteratorResult<unknown>;
		try {
			result = await iterator.next();
		} catch (error) {
			if (!(error instanceof ConnectError))
				throw new HubError("CANCELLED", "the request was cut off", { cause: error });
			throw fromLibrary(mounted, error.code, error.rawMessage);
		}
		if (result.done) return;
		yield toInput(mounted, result.value);
	}
}

async function single(inputs: AsyncGenerator<unknown>): Promise<unknown> {
	const first = await inputs.next();
	if (first.done) throw new HubError("MALFORMED_REQUEST", "the request message is missing");
	const second = await inputs.next();
	if (!second.done) throw new HubError("MALFORMED_REQUEST", "this call takes one request message, not several");
	return first.value;
}

function toInput(mounted: MountedMethod, message: unknown): unknown {
	return mounted.raw !== undefined ? toBinary(mounted.descriptor.input, message as never) : message;
}

/** Ends the call where it holds too much: an error of the body alone would reach the peer in the library's words. */
function holdOrAbort(pipeline: Pipeline, call: ServerCall, bytes: number): void {
	try {
		pipeline.hold(call, bytes);
	} catch (error) {
		call.abort(error as HubError);
		throw error;
	}
}

/** What `work` gives, or the reason why nobody waits for it any more. */
function unlessAborted<T>(call: ServerCall, work: Promise<T>): Promise<T> {
	if (call.abortReason) {
		work.catch(() => {});
		return Promise.reject(call.abortReason);
	}
	return new Promise((resolve, reject) => {
		call.onAbort = reject;
		work.then(resolve, reject);
	});
}

/**
 * The request as the library takes it. Its URL has a constant authority, because what a peer puts there need not be one;
 * its timeout headers are left out, because deadlines are the call's.
 */
function universalRequest(
	request: IncomingMessage | Http2ServerRequest,
	url: string,
	call: ServerCall,
): Omit<UniversalServerRequest, "body"> {
	const header = webHeaders(request.headers);
	header.delete("grpc-timeout");
	header.delete("connect-timeout-ms");
	return {
		httpVersion: request.httpVersion,
		method: request.method ?? "",
		url: `http://hub${url}`,
		header,
		signal: call.signal,
		contextValues: createContextValues().set(CALL, call),
	};
}
