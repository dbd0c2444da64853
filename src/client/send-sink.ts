import type { Address, Message, RequestResponse, SendResponse } from "#gen/qirvo/hub/v1/messaging_service_pb.js";

/** A message or request on its way to the hub. */
export interface SendEntry {
	readonly to: Address;
	readonly message: Message;
	/** Undefined: a one-way message. */
	readonly request: { /** On the monotonic clock. */ readonly deadline: number } | undefined;
	/** Undefined until it is sent: the best that the hub offers for a message, transient for a request. */
	durable: boolean | undefined;
	/** `Clock.monotonic()` of the first time it was sent. */
	sentAt: number | undefined;
	/** The caller has its answer, or no longer waits. */
	settled: boolean;
	accepted(response: SendResponse): void;
	answered(response: RequestResponse): void;
	reject(error: unknown): void;
}

/** A way to the hub. It settles every entry it is given, unless the caller settles it first. */
export interface SendSink {
	push(entry: SendEntry): void;
	/** The caller of a request no longer waits; its handler is told. */
	cancel(entry: SendEntry): void;
}
