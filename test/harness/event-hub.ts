import { generateKeyPairSync } from "node:crypto";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
	EmitRequestSchema,
	type EmitResponse,
	EmitResponseSchema,
	type EmitStreamRequestSchema,
	EmitStreamRequestSchema as EmitStreamRequests,
	type EmitStreamResponse,
	EmitStreamResponseSchema,
	EventSchema,
	type ListEventsRequestSchema,
	ListEventsRequestSchema as ListEventsRequests,
	type ListEventsResponse,
	ListEventsResponseSchema,
	ListSubscriptionsRequestSchema,
	type ListSubscriptionsResponse,
	ListSubscriptionsResponseSchema,
	type SubscribeRequestSchema,
	SubscribeRequestSchema as SubscribeRequests,
	type SubscribeResponse,
	SubscribeResponseSchema,
} from "#gen/qirvo/hub/v1/event_service_pb.js";
import { EventBus, type EventBusOptions } from "../../src/events/event-bus.ts";
import type { HubError } from "../../src/hub-error.ts";
import { FirstAnswers } from "../../src/idempotency/first-answers.ts";
import type { Call, Encoded, MountedService, Raw } from "../../src/rpc/call.ts";
import type { EventGuard } from "../../src/rpc/event-guard.ts";
import { createEventService } from "../../src/rpc/event-service.ts";
import type { AuditEntry } from "../../src/security/audit-entry.ts";
import type { Caller } from "../../src/security/caller.ts";
import { ResumeTokens } from "../../src/security/resume-tokens.ts";
import type { LogStore } from "../../src/state/log-store.ts";
import { openMemoryState } from "../../src/state/memory/open-memory-state.ts";
import type { StateBackend } from "../../src/state/state-backend.ts";
import { FakeClock, SequentialIds } from "./fake-clock.ts";
import { openLetters } from "./open-letters.ts";

export function plugin(id: string): Caller {
	return { kind: "plugin", id, credentialId: "c1", expiresAt: undefined };
}

export const operator: Caller = { kind: "operator", id: "root", credentialId: "c0", expiresAt: undefined };

/** A call without a transport. */
export class FakeCall implements Call {
	readonly method = "/qirvo.hub.v1.EventService/Test";
	readonly peer = { address: "127.0.0.1:1", encrypted: false };
	readonly requestId = "request-1";
	readonly traceparent = undefined;
	readonly deadline = undefined;
	readonly caller: Caller;
	readonly controller = new AbortController();

	constructor(caller: Caller) {
		this.caller = caller;
	}

	get signal(): AbortSignal {
		return this.controller.signal;
	}
}

interface OpenStream {
	readonly caller: Caller;
	recheck(): void;
	revoke(error: HubError): void;
}

/** Streams that a test can re-check and revoke. */
class FakeStreams {
	readonly open_ = new Set<OpenStream>();

	open(caller: Caller, stream: { recheck(): void; revoke(error: HubError): void }): Disposable {
		stream.recheck();
		const entry: OpenStream = {
			caller,
			recheck: () => stream.recheck(),
			revoke: (error) => stream.revoke(error),
		};
		this.open_.add(entry);
		return { [Symbol.dispose]: () => void this.open_.delete(entry) };
	}
}

/** Admits everything that `deny` does not throw on, and keeps what it was asked. */
class FakeGuard implements EventGuard {
	readonly asked: string[] = [];
	deny: (caller: Caller, kind: string) => void = () => {};

	check(...[caller, action]: Parameters<EventGuard["check"]>): void {
		this.asked.push(action.kind);
		this.deny(caller, action.kind);
	}

	recheck(...[caller, action]: Parameters<EventGuard["recheck"]>): void {
		this.deny(caller, action.kind);
	}
}

/** The event bus and its service on memory state, called as a lane would. */
export class EventHub {
	readonly clock = new FakeClock();
	readonly ids = new SequentialIds();
	readonly guard = new FakeGuard();
	readonly streams = new FakeStreams();
	readonly audited: AuditEntry[] = [];
	readonly faults: unknown[] = [];
	readonly state: StateBackend;
	readonly log: LogStore;
	readonly bus: EventBus;
	readonly service: MountedService;

	private constructor(
		parts: { state: StateBackend; log: LogStore; clock: FakeClock; ids: SequentialIds },
		options: Partial<EventBusOptions>,
	) {
		this.clock = parts.clock;
		this.ids = parts.ids;
		this.state = parts.state;
		this.log = options.log ?? parts.log;
		const { clock, ids, state, log } = this;
		const onFault = (_what: string, error: unknown) => void this.faults.push(error);
		const answers = new FirstAnswers({ kv: state.kv, clock, ids });
		const letters = openLetters({ kv: state.kv, clock, ids });
		this.bus = new EventBus({ kv: state.kv, clock, ids, answers, letters, onFault, ...options, log });
		this.service = createEventService({
			bus: this.bus,
			guard: this.guard,
			streams: this.streams,
			resumeTokens: new ResumeTokens({ id: "k1", ...generateKeyPairSync("ed25519") }),
			audit: {
				record: (entry) => void this.audited.push(entry),
				change: () => {
					throw new Error("nobody here is an operator");
				},
			},
			clock,
			ids,
		});
	}

	static async open(
		options: Partial<EventBusOptions> & { wrapLog?: (log: LogStore) => LogStore } = {},
	): Promise<EventHub> {
		const clock = new FakeClock();
		const ids = new SequentialIds();
		const state = openMemoryState({ clock, ids });
		const log = await state.log("events");
		const { wrapLog, ...rest } = options;
		const hub = new EventHub({ state, log: wrapLog ? wrapLog(log) : log, clock, ids }, rest);
		hub.bus.start();
		return hub;
	}

	/** Emits one event and gives the answer as it would be decoded. */
	async emit(event: MessageInitShape<typeof EventSchema>, caller: Caller = plugin("weather")): Promise<EmitResponse> {
		return this.emitBytes(
			toBinary(EmitRequestSchema, create(EmitRequestSchema, { event: create(EventSchema, event) })),
			caller,
		);
	}

	async emitBytes(bytes: Uint8Array, caller: Caller = plugin("weather")): Promise<EmitResponse> {
		const { handler } = this.service.handlers.emit as Raw<(request: Uint8Array, call: Call) => Promise<Encoded>>;
		const answer = await handler(bytes, new FakeCall(caller));
		return fromBinary(EmitResponseSchema, Buffer.concat(answer.parts));
	}

	async *emitStream(
		batches: AsyncIterable<MessageInitShape<typeof EmitStreamRequestSchema>>,
		call: FakeCall = new FakeCall(plugin("weather")),
	): AsyncGenerator<EmitStreamResponse, void, undefined> {
		const { handler } = this.service.handlers.emitStream as Raw<
			(requests: AsyncIterable<Uint8Array>, call: Call) => AsyncIterable<never>
		>;
		async function* encoded() {
			for await (const batch of batches) yield toBinary(EmitStreamRequests, create(EmitStreamRequests, batch));
		}
		for await (const frame of handler(encoded(), call)) yield create(EmitStreamResponseSchema, frame);
	}

	subscribe(
		request: MessageInitShape<typeof SubscribeRequestSchema>,
		call: FakeCall = new FakeCall(plugin("watcher")),
	): AsyncGenerator<SubscribeResponse, void, undefined> {
		const handler = this.service.handlers.subscribe as (request: unknown, call: Call) => AsyncGenerator<Encoded>;
		return decoded(handler(create(SubscribeRequests, request), call));
	}

	async listEvents(
		request: MessageInitShape<typeof ListEventsRequestSchema>,
		caller: Caller = plugin("watcher"),
	): Promise<ListEventsResponse> {
		const handler = this.service.handlers.listEvents as (request: unknown, call: Call) => Promise<Encoded>;
		const answer = await handler(create(ListEventsRequests, request), new FakeCall(caller));
		return fromBinary(ListEventsResponseSchema, Buffer.concat(answer.parts));
	}

	async listSubscriptions(
		request: MessageInitShape<typeof ListSubscriptionsRequestSchema>,
		caller: Caller,
	): Promise<ListSubscriptionsResponse> {
		const handler = this.service.handlers.listSubscriptions as (request: unknown, call: Call) => Promise<never>;
		const answer = await handler(create(ListSubscriptionsRequestSchema, request), new FakeCall(caller));
		return create(ListSubscriptionsResponseSchema, answer);
	}

	/** Throws where anything is left that a stream should have released. */
	assertNothingLeft(): void {
		const left = {
			subscriptions: this.bus.subscriptions.size,
			attached: this.bus.attached,
			streams: this.streams.open_.size,
		};
		for (const [what, count] of Object.entries(left)) if (count > 0) throw new Error(`${count} ${what} are left open`);
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.bus[Symbol.asyncDispose]();
		await this.state[Symbol.asyncDispose]();
		if (this.clock.pendingTimers > 0) throw new Error(`${this.clock.pendingTimers} timers are left`);
	}
}

async function* decoded(frames: AsyncGenerator<Encoded>): AsyncGenerator<SubscribeResponse, void, undefined> {
	try {
		for await (const frame of frames) yield fromBinary(SubscribeResponseSchema, Buffer.concat(frame.parts));
	} finally {
		await frames.return(undefined);
	}
}
