import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { EventService } from "#gen/qirvo/hub/v1/event_service_pb.js";
import type { Clock, IdSource } from "../clock/clock.ts";
import type { EventBus } from "../events/event-bus.ts";
import { type EmitPolicy, EventIntake } from "../events/event-intake.ts";
import { FlightBudget } from "../events/flight-budget.ts";
import { listEvents } from "../events/list-events.ts";
import type { Subscriber } from "../events/subscriber.ts";
import type { Subscription } from "../events/subscription.ts";
import { HubError } from "../hub-error.ts";
import type { EventAction } from "../security/actions.ts";
import { type Caller, principalOf } from "../security/caller.ts";
import type { ResumeTokens, SubscriptionBeginning } from "../security/resume-tokens.ts";
import { WireWriter } from "../wire/wire-writer.ts";
import { type Call, Encoded, type MountedService, mount, Raw, type RawOptions } from "./call.ts";
import { type DurableAudit, durableHandlers } from "./durable-handlers.ts";
import { emitAnswer } from "./emit-answer.ts";
import { EmitStream } from "./emit-stream.ts";
import type { EventGuard } from "./event-guard.ts";
import { parseListEvents, parseSubscribe, type SubscribeQuery } from "./event-requests.ts";
import { decodePageToken, encodePageToken, pageSizeOf } from "./page-token.ts";
import { scopeOf } from "./plugin-scope.ts";
import { endWith, type StreamRegistry } from "./stream-ending.ts";

export interface EventServiceDeps {
	readonly bus: EventBus;
	readonly guard: EventGuard;
	readonly streams: StreamRegistry;
	readonly resumeTokens: Pick<ResumeTokens, "seal" | "open">;
	readonly audit: DurableAudit;
	readonly clock: Clock;
	readonly ids: IdSource;
	/** Bytes that one publisher may have on the way to the log; beyond that its streams are not read. Default 8 MiB. */
	readonly maxBytesInFlight?: number;
}

const SUBSCRIPTIONS_PAGE = Object.freeze({ usual: 50, most: 500 });
const MAX_BYTES_IN_FLIGHT = 8 * 1024 * 1024;
const INTAKE_JUDGES: RawOptions = { judgesWire: true };

/** The event bus on the wire. */
export function createEventService(deps: EventServiceDeps): MountedService {
	const { bus, guard, streams, resumeTokens, clock, ids } = deps;
	const budget = new FlightBudget(deps.maxBytesInFlight ?? MAX_BYTES_IN_FLIGHT);
	// A caller is one object for as long as its credential is remembered.
	const intakes = new WeakMap<Caller, EventIntake>();
	const intakeOf = (caller: Caller): EventIntake => {
		let intake = intakes.get(caller);
		if (intake === undefined) {
			if (caller.kind !== "plugin") throw new HubError("CALLER_NOT_ALLOWED", "events are published by plugins");
			intake = new EventIntake(caller.id, ids);
			intakes.set(caller, intake);
		}
		return intake;
	};
	return mount(EventService, {
		...durableHandlers(deps),

		emit: new Raw(async (request: Uint8Array, call: Call) => {
			const record = intakeOf(call.caller).readOne(request, policyOf(deps, call));
			const [outcome] = await bus.events.append([record]);
			if (outcome === undefined || outcome instanceof HubError) throw outcome;
			return new Encoded([emitAnswer(record.eventId, bus.events.epoch, outcome)]);
		}, INTAKE_JUDGES),

		emitStream: new Raw((requests: AsyncIterable<Uint8Array>, call: Call) => {
			const { caller } = call;
			const options = {
				id: ids.next(),
				call,
				streams,
				principal: principalOf(caller),
				intake: intakeOf(caller),
				policy: policyOf(deps, call),
				events: bus.events,
				budget,
				clock,
			};
			return new EmitStream(options, requests).responses;
		}, INTAKE_JUDGES),

		async *subscribe(request, call) {
			const query = await parseSubscribe(request);
			const { start, options, resumeToken } = query;
			const reader = { principal: principalOf(call.caller), patterns: options.patterns };
			const began = resumeToken === "" ? undefined : resumeTokens.open(resumeToken, reader);
			const resumes = began !== undefined && isResumed(query, began);
			const actions = actionsOf(query, resumes);
			for (const action of actions) guard.check(call.caller, action, undefined, call.requestId);
			// A resumed subscription hands on the token that it was resumed with, and with that where it all began.
			const tokenFrom = (sequence: number) =>
				resumes ? resumeToken : resumeTokens.seal(reader, { epoch: bus.log.epoch, sequence });
			const subscription = await bus.subscriptions.open(subscriberOf(call.caller), start, options, tokenFrom);
			let registered: Disposable | undefined;
			try {
				registered = endWith(
					call,
					streams,
					() => {
						for (const action of actions) guard.recheck(call.caller, action);
					},
					(error, ending) => subscription.end(error, ending),
				);
				for await (const parts of subscription.frames()) yield new Encoded(parts);
			} finally {
				registered?.[Symbol.dispose]();
				subscription.end(new HubError("CANCELLED", "the stream has ended"), "silent");
			}
		},

		async listEvents(request, call) {
			const { epoch } = bus.log;
			const { query, bound } = parseListEvents(request, epoch);
			guard.check(call.caller, { kind: "replay", patterns: query.patterns }, undefined, call.requestId);
			const { entries, next } = await listEvents(bus.log, subscriberOf(call.caller), query);
			const rest = new WireWriter();
			if (next !== undefined) rest.string(2, encodePageToken(bound, String(next)));
			rest.string(3, epoch);
			return new Encoded([...entries, rest.finish()]);
		},

		async listSubscriptions(request, call) {
			const pluginId = scopeOf({ audit: deps.audit, things: "subscriptions" }, call, request.pluginId);
			const bound = ["subscriptions", pluginId];
			const after = decodePageToken(bound, request.pageToken) ?? "";
			const limit = pageSizeOf(request.pageSize, SUBSCRIPTIONS_PAGE);
			const { subscriptions, next } = bus.subscriptions.list({ pluginId, after, limit });
			return { subscriptions: subscriptions.map(describe), nextPageToken: encodePageToken(bound, next) };
		},
	});
}

function policyOf({ guard, audit }: EventServiceDeps, call: Call): EmitPolicy {
	const { caller } = call;
	return {
		check: (subject, content) => guard.check(caller, { kind: "emit", subject }, content, call.requestId),
		spoofed: (error) =>
			audit.record({
				event: "event_denied",
				actor: principalOf(caller),
				target: "event",
				reason: "spoofed_source",
				details: { message: error.message },
				requestId: call.requestId,
			}),
	};
}

function subscriberOf(caller: Caller): Subscriber {
	if (caller.kind === "anonymous") throw new HubError("CALLER_NOT_ALLOWED", "events are read with a credential");
	return { principal: principalOf(caller), pluginId: caller.kind === "plugin" ? caller.id : undefined };
}

/** Whether a subscription that began there goes on: nothing it asks for lies before. */
function isResumed({ start, options }: SubscribeQuery, began: SubscriptionBeginning): boolean {
	if (!options.live || start.from !== "after") return false;
	return start.epoch === began.epoch && start.sequence + 1n >= BigInt(began.sequence);
}

/** The grants that a subscription needs: `replay` for what is past, `subscribe` for what is to come or was missed. */
function actionsOf({ start, options }: SubscribeQuery, resumes: boolean): readonly EventAction[] {
	const { patterns, live } = options;
	const actions: EventAction[] = [];
	if (live) actions.push({ kind: "subscribe", patterns });
	if (!live || (start.from !== "new" && !resumes)) actions.push({ kind: "replay", patterns });
	return actions;
}

function describe(subscription: Subscription) {
	const { id, subscriber, options, createTime, lag, delivered, filterErrors } = subscription;
	const { patterns, filter, priority, limit, idleTimeoutMs, live } = options;
	return {
		id,
		pluginId: subscriber.pluginId ?? "",
		patterns: patterns.map((pattern) => pattern.spelling),
		filter: filter?.text ?? "",
		priority,
		limit,
		idleTimeout: idleTimeoutMs === undefined ? undefined : durationFromMs(idleTimeoutMs),
		live,
		createTime: timestampFromMs(createTime),
		lag: BigInt(lag),
		delivered: BigInt(delivered),
		filterErrors: BigInt(filterErrors),
	};
}
