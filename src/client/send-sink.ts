import type { RequestResponse, SendResponse } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { WireRange } from "./wire-range.ts";

/** What the hub says of a message that it accepted. */
export type Accepted = Pick<SendResponse, "id" | "disposition" | "duplicate">;

/** A message or request on its way to the hub. */
export interface SendEntry {
	/** From `encodeSend`. */
	readonly range: WireRange;
	/** Under which it is sent. */
	readonly entryId: number;
	/** Handling it twice does no harm. */
	readonly idempotent: boolean;
	/** Undefined: a one-way message. */
	readonly request: { /** On the monotonic clock. */ readonly deadline: number } | undefined;
	/** Undefined until it is sent: the best that the hub offers for a message, transient for a request. */
	durable: boolean | undefined;
	/** `Clock.monotonic()` of the first time it was sent. */
	sentAt: number | undefined;
	/** The caller has its answer, or no longer waits. */
	settled: boolean;
	accepted(response: Accepted): void;
	answered(response: RequestResponse): void;
	reject(error: unknown): void;
}

/** A way to the hub. It settles every entry it is given, unless the caller settles it first. */
export interface SendSink {
	push(entry: SendEntry): void;
	/** The caller of a request no longer waits; its handler is told. */
	cancel(entry: SendEntry): void;
}
