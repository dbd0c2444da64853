import { Code } from "@connectrpc/connect";
import type { Clock } from "../clock/clock.ts";
import { durationMs } from "./durations.ts";
import { HubClientError } from "./errors.ts";
import type { EncodedEvent } from "./event-encoder.ts";
import type { FeedPosition } from "./feed-position.ts";
import type { Connection } from "./session-loop.ts";

/** An event on its way to the hub. */
export interface EmitEntry {
	readonly event: EncodedEvent;
	/** `Clock.monotonic()` of the first time it was sent. */
	sentAt: number | undefined;
	/** Nobody waits for it any more; it is not sent if it was not yet. */
	abandoned: boolean;
	resolve(position: FeedPosition, duplicate: boolean): void;
	reject(error: unknown): void;
}

/** A way to the hub. It settles every entry it is given, once. */
export interface EmitSink {
	push(entry: EmitEntry): void;
}

/** An event that was sent once is sent again only while the hub knows its id for certain. */
const ID_WINDOW_SHARE = 0.75;
const DEFAULT_ID_WINDOW_MS = 120_000;

/** Ids that were sent before this time, on the monotonic clock, may be forgotten. */
export function oldestRemembered({ info }: Connection, clock: Clock): number {
	const window = info.limits?.idWindow ? durationMs(info.limits.idWindow) : DEFAULT_ID_WINDOW_MS;
	return clock.monotonic() - window * ID_WINDOW_SHARE;
}

export function isForgotten({ sentAt }: EmitEntry, oldest: number): boolean {
	return sentAt !== undefined && sentAt < oldest;
}

export function outcomeUnknown(): HubClientError {
	return new HubClientError("OUTCOME_UNKNOWN", "the connection was lost for longer than the hub remembers ids", {
		code: Code.Unknown,
	});
}
