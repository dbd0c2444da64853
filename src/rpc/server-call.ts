import type { Clock, IdSource, Timer } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import { ANONYMOUS, type Caller, type PeerInfo } from "../security/caller.ts";
import type { Lane } from "../telemetry/metrics.ts";
import type { Call } from "./call.ts";
import type { CallHeaders } from "./call-headers.ts";
import type { MountedMethod } from "./method-table.ts";

const REQUEST_ID = /^[A-Za-z0-9._-]{1,128}$/;

/**
 * One call in progress, on either lane. Made for calls that last microseconds: the request id, the signal and the
 * deadline's timer exist only where somebody needs them.
 */
export class ServerCall implements Call {
	readonly method: string;
	readonly peer: PeerInfo;
	readonly mounted: MountedMethod;
	readonly lane: Lane;
	readonly headers: CallHeaders;
	readonly deadline: number | undefined;
	/** `Clock.monotonic()` when the call began. */
	readonly startedAt: number;
	caller: Caller = ANONYMOUS;
	/** Bytes of its request that the hub holds and has not handled, as the pipeline counts them. */
	heldBytes = 0;
	/** Whether it takes a place among the streams that anyone may open, as the pipeline counts them. */
	isPublicStream = false;
	/** Whether its request is there as a whole, or need never be: a stream of requests may last. */
	isReceived: boolean;
	/** Told once, when the call is aborted from outside: the lane ends it for the peer. */
	onAbort: ((reason: HubError) => void) | undefined;
	readonly #ids: IdSource;
	#requestId: string | undefined;
	#controller: AbortController | undefined;
	#reason: HubError | undefined;
	#draining: HubError | undefined;
	#timer: Timer | undefined;
	#settled = false;

	constructor(mounted: MountedMethod, lane: Lane, headers: CallHeaders, peer: PeerInfo, clock: Clock, ids: IdSource) {
		this.lane = lane;
		this.mounted = mounted;
		this.method = mounted.path;
		this.headers = headers;
		this.peer = peer;
		this.#ids = ids;
		this.isReceived = mounted.descriptor.methodKind === "bidi_streaming";
		this.startedAt = clock.monotonic();
		if (headers.timeoutMs !== undefined) {
			this.deadline = this.startedAt + headers.timeoutMs;
			this.#timer = clock.after(headers.timeoutMs, () => {
				this.abort(new HubError("DEADLINE_EXCEEDED", "the deadline passed before the answer was ready"));
			});
		}
	}

	get requestId(): string {
		if (this.#requestId === undefined) {
			const given = this.headers.requestId;
			this.#requestId = given !== undefined && REQUEST_ID.test(given) ? given : this.#ids.next();
		}
		return this.#requestId;
	}

	get traceparent(): string | undefined {
		return this.headers.traceparent;
	}

	get signal(): AbortSignal {
		if (!this.#controller) {
			this.#controller = new AbortController();
			const reason = this.#reason ?? this.#draining;
			if (reason) this.#controller.abort(reason);
		}
		return this.#controller.signal;
	}

	/** Why the call was aborted, where it was. */
	get abortReason(): HubError | undefined {
		return this.#reason;
	}

	/** Why the hub asked the handler to stop, where it did. */
	get drainReason(): HubError | undefined {
		return this.#draining;
	}

	get settled(): boolean {
		return this.#settled;
	}

	/** Ends the call from outside: the peer went away, or its deadline passed. Does nothing once the call is settled. */
	abort(reason: HubError): void {
		if (this.#settled || this.#reason) return;
		this.#reason = reason;
		this.#controller?.abort(reason);
		this.onAbort?.(reason);
	}

	/** Tells the handler that the hub is stopping. It may still end its stream with a last frame. */
	drain(reason: HubError): void {
		if (this.#settled || this.#reason || this.#draining) return;
		this.#draining = reason;
		this.#controller?.abort(reason);
	}

	/** Marks the call as ended. True for the first call only. */
	settle(): boolean {
		if (this.#settled) return false;
		this.#settled = true;
		this.#timer?.cancel();
		this.onAbort = undefined;
		return true;
	}
}
