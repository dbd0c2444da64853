import { create } from "@bufbuild/protobuf";
import { createAsyncIterable } from "@connectrpc/connect/protocol";
import {
	type Event,
	type SubscribeRequest,
	SubscribeRequestSchema,
	type SubscribeResponse,
	type SubscribeStart,
	SubscribeStartSchema,
} from "#gen/qirvo/hub/v1/event_service_pb.js";
import { type Position, PositionSchema } from "#gen/qirvo/hub/v1/payload_pb.js";
import type { ClientContext } from "./client-context.ts";
import { toDuration, toTimestamp } from "./durations.ts";
import type { HubClientError } from "./errors.ts";
import type { FeedPosition } from "./feed-position.ts";
import { HubEvent } from "./hub-event.ts";
import { keepOpen } from "./keep-open.ts";
import { endedEarly, readFrames } from "./read-frames.ts";
import { WireEvent } from "./wire-event.ts";
import { lazySubscribe, type WireBatch } from "./wire-frame.ts";

/** Where events begin: what is new, everything there is, from a time on, or after a position. */
export type EventStart = "new" | "everything" | Date | FeedPosition;

export interface FeedRequest {
	readonly patterns: readonly string[];
	readonly start: EventStart;
	/** False: ends once the history is complete. */
	readonly live: boolean;
	readonly filter?: string;
	readonly priority?: number;
	/** Ends after so many events. */
	readonly limit?: number;
	readonly idleTimeoutMs?: number;
}

export interface FeedListener {
	/** Takes events in order; the next are read once it is done. */
	deliver(events: readonly HubEvent[]): void | Promise<void>;
	/** The hub accepted the subscription; called once. */
	onReady?(id: string): void;
	/** The history asked for is complete; called once. */
	onCaughtUp?(): void;
	/**
	 * The hub no longer has what followed the last position. True: go on with the oldest event there is; false: end with the
	 * error.
	 */
	onGap(error: HubClientError, lastSeen: FeedPosition): boolean;
}

/**
 * One subscription that outlives connections: after a loss it goes on behind the last event it delivered, so that each
 * event is delivered once, in order.
 */
export class EventFeed {
	readonly #context: ClientContext;
	readonly #request: FeedRequest;
	readonly #listener: FeedListener;
	#start: EventStart;
	#position: FeedPosition | undefined;
	/** From the last `ready` frame: with it the hub lets the feed go on without the `replay` grant. */
	#resumeToken = "";
	#ready = false;
	#caughtUp: boolean;
	#delivered = 0;

	constructor(context: ClientContext, request: FeedRequest, listener: FeedListener) {
		this.#context = context;
		this.#request = request;
		this.#listener = listener;
		this.#start = request.start;
		this.#caughtUp = request.start === "new";
	}

	/** Behind what was delivered; undefined before the hub accepted the subscription. */
	get position(): FeedPosition | undefined {
		return this.#position;
	}

	/** Resolves when the signal aborts or the feed is complete, and with the error that ended it otherwise. */
	async run(signal: AbortSignal): Promise<HubClientError | undefined> {
		const { session, clock, random } = this.#context;
		while (true) {
			const error = await keepOpen({ session, clock, random, signal, run: this.#subscribe });
			if (error?.reason !== "POSITION_TRIMMED" || this.#position === undefined) return error;
			if (!this.#listener.onGap(error, this.#position)) return error;
			this.#position = undefined;
			this.#start = "everything";
		}
	}

	readonly #subscribe = async (_: unknown, signal: AbortSignal) => {
		const { transport, clock } = this.#context;
		const { live, limit } = this.#request;
		if (this.#isComplete) return;
		let complete = false;
		const onFrame = (message: SubscribeResponse | WireBatch) => {
			const { frame } = message;
			if (frame.case === "batch") return this.#deliver(frame.value.events, message.position);
			if (frame.case === "wireBatch") {
				const events = frame.value.map((bytes) => new WireEvent(bytes));
				return this.#deliver(events, message.position);
			}
			if (message.position) this.#position = message.position;
			if (frame.case === "ready") {
				this.#resumeToken = frame.value.resumeToken;
				if (!this.#ready) this.#listener.onReady?.(frame.value.id);
				this.#ready = true;
			} else if (frame.case === "caughtUp") {
				complete = !live;
				if (!this.#caughtUp) this.#listener.onCaughtUp?.();
				this.#caughtUp = true;
			}
		};
		const input = createAsyncIterable([this.#message()]);
		await readFrames({ transport, method: lazySubscribe, input, clock, signal, onFrame });
		if (!complete && !(limit !== undefined && this.#isComplete)) throw endedEarly("Subscribe");
	};

	get #isComplete(): boolean {
		const { limit } = this.#request;
		return limit !== undefined && this.#delivered >= limit;
	}

	#deliver(batch: readonly (Event | WireEvent)[], position: Position | undefined): void | Promise<void> {
		const epoch = position?.epoch ?? "";
		const mayBeReplay = !this.#caughtUp;
		const events = batch.map((event) => new HubEvent(event, epoch, mayBeReplay));
		const done = () => {
			this.#delivered += events.length;
			this.#position = position;
		};
		const delivered = this.#listener.deliver(events);
		if (delivered === undefined) return done();
		return delivered.then(done);
	}

	#message(): SubscribeRequest {
		const { patterns, live, filter, priority, limit, idleTimeoutMs } = this.#request;
		const request = create(SubscribeRequestSchema, { patterns: [...patterns], live, filter, priority });
		// Until an event has come a time is asked for again: a position says nothing of a time that is still to come.
		const from = this.#start instanceof Date && this.#delivered === 0 ? undefined : this.#position;
		request.start = startMessage(from ?? this.#start);
		if (from !== undefined) request.resumeToken = this.#resumeToken;
		if (limit !== undefined) request.limit = limit - this.#delivered;
		if (idleTimeoutMs !== undefined) request.idleTimeout = toDuration(idleTimeoutMs);
		return request;
	}
}

/** Where to begin, in the words of the contract. */
export function startMessage(start: EventStart): SubscribeStart {
	const message = create(SubscribeStartSchema);
	if (start === "new") message.from = { case: "newOnly", value: true };
	else if (start === "everything") message.from = { case: "everything", value: true };
	else if (start instanceof Date) message.from = { case: "time", value: toTimestamp(start.getTime()) };
	else message.from = { case: "after", value: create(PositionSchema, start) };
	return message;
}
