import type {
	DescMessage,
	DescMethod,
	DescMethodBiDiStreaming,
	DescMethodServerStreaming,
	DescMethodUnary,
	DescService,
	MessageInitShape,
	MessageShape,
} from "@bufbuild/protobuf";
import type { Caller, PeerInfo } from "../security/caller.ts";

/** What a handler may know of the call it serves. The same object on both lanes. */
export interface Call {
	/** `/qirvo.hub.v1.EventService/Emit`. */
	readonly method: string;
	readonly caller: Caller;
	readonly peer: PeerInfo;
	/** In the `RequestInfo` of every error and in every log line of this call. Taken from `x-request-id` where that is 1-128 of `[A-Za-z0-9._-]`. */
	readonly requestId: string;
	/** The W3C trace context of the caller, where it sent one. */
	readonly traceparent: string | undefined;
	/** `Clock.monotonic()` milliseconds by which an answer is due; undefined: none was set. */
	readonly deadline: number | undefined;
	/**
	 * Aborts when nobody waits for the answer any more: with a `HubError` of reason CANCELLED, DEADLINE_EXCEEDED,
	 * HUB_DRAINING or a revocation; or, on normal completion, not at all.
	 * Created on first use: a handler that never waits never pays for it.
	 */
	readonly signal: AbortSignal;
}

/**
 * A response (or one frame of a stream) that is in protobuf wire form already. The fast lane writes its parts as they
 * are; the Connect lane parses them.
 */
export class Encoded {
	readonly parts: readonly Uint8Array[];
	readonly byteLength: number;
	constructor(parts: readonly Uint8Array[]) {
		this.parts = parts;
		let total = 0;
		for (const part of parts) total += part.byteLength;
		this.byteLength = total;
	}
}

type Response<O extends DescMessage> = MessageInitShape<O> | Encoded;

/** How a handler takes requests in wire form. */
export interface RawOptions {
	/**
	 * The handler itself decodes and encodes again what is not plain, in whatever it refuses, because it reads every byte
	 * of what it takes and a look at them before would be a second one.
	 */
	readonly judgesWire: boolean;
}

const CHECKED: RawOptions = { judgesWire: false };

/**
 * Marks a handler that takes its requests in wire form, because it forwards most of their bytes as they are. They are
 * well formed, unless it asks to judge that itself; only what is not known to the schema may hold anything.
 */
export class Raw<H> {
	readonly handler: H;
	readonly options: RawOptions;
	constructor(handler: H, options: RawOptions = CHECKED) {
		this.handler = handler;
		this.options = options;
	}
}

export type UnaryHandler<I, O extends DescMessage> = (request: I, call: Call) => Promise<Response<O>>;
export type ServerStreamHandler<I, O extends DescMessage> = (request: I, call: Call) => AsyncIterable<Response<O>>;
export type BidiHandler<I, O extends DescMessage> = (
	requests: AsyncIterable<I>,
	call: Call,
) => AsyncIterable<Response<O>>;

/**
 * The handler of one RPC. A response stream is pulled: the next frame is asked for when the peer can take it, so a
 * handler that batches what is waiting batches by backpressure.
 */
export type Handler<M extends DescMethod> =
	M extends DescMethodUnary<infer I, infer O>
		? UnaryHandler<MessageShape<I>, O> | Raw<UnaryHandler<Uint8Array, O>>
		: M extends DescMethodServerStreaming<infer I, infer O>
			? ServerStreamHandler<MessageShape<I>, O>
			: M extends DescMethodBiDiStreaming<infer I, infer O>
				? BidiHandler<MessageShape<I>, O> | Raw<BidiHandler<Uint8Array, O>>
				: never;

/** A whole service: leaving an RPC out is a compile error. */
export type HubService<S extends DescService> = { readonly [K in keyof S["method"]]: Handler<S["method"][K]> };

/** A service with its descriptor, as the lanes mount it. */
export interface MountedService {
	readonly descriptor: DescService;
	readonly handlers: Readonly<Record<string, AnyHandler>>;
}

/** The handler of an RPC whose types are known only at run time. */
// biome-ignore lint/suspicious/noExplicitAny: the lanes read the types from the descriptor
export type AnyHandler = ((input: any, call: Call) => any) | Raw<(input: any, call: Call) => any>;

/** Ties handlers to their descriptor, checked by the compiler. */
export function mount<S extends DescService>(descriptor: S, handlers: HubService<S>): MountedService {
	return { descriptor, handlers: handlers as MountedService["handlers"] };
}
