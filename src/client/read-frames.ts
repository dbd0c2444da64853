import type { DescMessage, DescMethodStreaming, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { Code, type Transport } from "@connectrpc/connect";
import type { Draining, Revoked, StreamReady } from "#gen/qirvo/hub/v1/payload_pb.js";
import type { Clock, Timer } from "../clock/clock.ts";
import { durationMs } from "./durations.ts";
import { HubClientError, type Reason, toClientError } from "./errors.ts";

/** The cases that the frames of every stream share. */
type SharedCase =
	| { case: "ready"; value: StreamReady }
	| { case: "revoked"; value: Revoked }
	| { case: "draining"; value: Draining };

interface Frame {
	readonly frame: SharedCase | { case: string | undefined; value?: unknown };
}

export interface ReadFramesOptions<I extends DescMessage, O extends DescMessage> {
	readonly transport: Transport;
	readonly method: DescMethodStreaming<I, O>;
	readonly input: AsyncIterable<MessageInitShape<I>>;
	readonly clock: Clock;
	/** Ends the stream. */
	readonly signal: AbortSignal;
	/** Takes each frame; the next is read once it is done. */
	readonly onFrame: (frame: MessageShape<O>) => void | Promise<void>;
}

/** A stream that was silent for this many of the hub's heartbeat intervals is lost. */
const MISSED_HEARTBEATS = 3;

/**
 * Opens a stream and hands its frames on, in order. Resolves when the hub ends it without an error. Rejects with a
 * `HubClientError` where it fails, is revoked or drained, or falls silent.
 */
export async function readFrames<I extends DescMessage, O extends DescMessage>(
	options: ReadFramesOptions<I, O>,
): Promise<void> {
	const { transport, method, clock, signal } = options;
	const controller = new AbortController();
	const end = () => controller.abort(signal.reason);
	if (signal.aborted) end();
	signal.addEventListener("abort", end, { once: true });
	let watch: Timer | undefined;
	let missed = 0;
	let stalled: HubClientError | undefined;
	const miss = () => {
		if (++missed < MISSED_HEARTBEATS) return;
		stalled = new HubClientError("CONNECTION_LOST", `${method.name}: nothing came for ${missed} heartbeat intervals`);
		controller.abort(stalled);
	};
	try {
		const response = await transport.stream(method, controller.signal, undefined, undefined, options.input);
		for await (const message of response.message) {
			const { frame } = message as unknown as Frame;
			missed = Number.NEGATIVE_INFINITY;
			if (frame.case === "ready") {
				const interval = (frame.value as StreamReady).heartbeatInterval;
				if (interval && watch === undefined) watch = clock.every(Math.max(durationMs(interval), 1_000), miss);
			} else if (frame.case === "revoked") {
				throw revokedError(frame.value as Revoked);
			} else if (frame.case === "draining") {
				throw new HubClientError("HUB_DRAINING", "the hub is shutting down");
			}
			const handled = options.onFrame(message);
			if (handled !== undefined) await handled;
			missed = 0;
		}
		if (stalled) throw stalled;
	} catch (error) {
		throw stalled ?? toClientError(error, controller.signal);
	} finally {
		watch?.cancel();
		signal.removeEventListener("abort", end);
		controller.abort();
	}
}

function revokedError({ reason, message }: Revoked): HubClientError {
	const code = reason.startsWith("CREDENTIAL_") ? Code.Unauthenticated : Code.PermissionDenied;
	return new HubClientError((reason as Reason) || "PERMISSION_REVOKED", message, { code });
}

/** What a stream that must not end, but did, fails with. */
export function endedEarly(name: string): HubClientError {
	return new HubClientError("CONNECTION_LOST", `${name}: the hub ended the stream`);
}
