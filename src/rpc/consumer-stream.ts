import type { Clock } from "../clock/clock.ts";
import type { ConsumerSession } from "../events/durable/consumer-session.ts";
import type { DurableDefinition } from "../events/durable/durable-definition.ts";
import type { EventBus } from "../events/event-bus.ts";
import { HubError } from "../hub-error.ts";
import type { EventAction } from "../security/actions.ts";
import type { Caller } from "../security/caller.ts";
import type { Call, Encoded } from "./call.ts";
import { CONSUME_FRAMES, consumeFailures, consumeOutput, consumeReady, consumeSettled } from "./consume-frames.ts";
import type { SettledViews } from "./consumer-settlements.ts";
import type { AnswerFailure } from "./delivery-answers.ts";
import { parseDurableName } from "./durable-requests.ts";
import type { EventGuard } from "./event-guard.ts";
import { PulledStream } from "./pulled-stream.ts";
import { endingOf, type StreamRegistry } from "./stream-ending.ts";

export interface ConsumerStreamDeps {
	readonly bus: EventBus;
	readonly guard: EventGuard;
	readonly streams: StreamRegistry;
	readonly clock: Clock;
}

/** The down side of a consumer's session, the same for `Consume` and `ReceiveEvents`. The session lives as long as it does. */
export class ConsumerStream {
	/** What goes down. Nothing does before `open`. */
	readonly responses: PulledStream<Encoded>;
	readonly #deps: ConsumerStreamDeps;
	readonly #call: Call;
	readonly #pluginId: string;
	#actions: readonly EventAction[] = [];
	#failures: AnswerFailure[] = [];
	/** Deliveries whose settlement is stored and not yet on its way. Bounded by what the session may have unsettled. */
	#settled: string[] = [];
	#session: ConsumerSession | undefined;
	#ready = false;

	/** Refuses callers that are no plugins. */
	constructor(deps: ConsumerStreamDeps, call: Call) {
		this.#deps = deps;
		this.#call = call;
		this.#pluginId = consumerOf(call.caller);
		this.responses = new PulledStream({
			clock: deps.clock,
			call,
			streams: deps.streams,
			recheck: () => {
				for (const action of this.#actions) deps.guard.recheck(call.caller, action);
			},
			frames: CONSUME_FRAMES,
			produce: () => this.#produce(),
			onEnd: () => this.#release(),
		});
	}

	/** Failures that are not on their way yet. */
	get failures(): number {
		return this.#failures.length;
	}

	/** Refuses like `DurableSubscriptions.consume`, and what the guard refuses. */
	async open(name: string, field: string, maxInFlight: number): Promise<ConsumerSession> {
		const { bus, guard } = this.#deps;
		const { caller, requestId } = this.#call;
		const definition = bus.durable.define(this.#pluginId, parseDurableName(name, field));
		const actions = consumeActions(definition);
		for (const action of actions) guard.check(caller, action, undefined, requestId);
		this.#actions = actions;
		const session = await bus.durable.consume(definition, maxInFlight);
		this.#session = session;
		session.listen({
			wake: () => this.responses.wake(),
			closed: (error) => this.responses.fail(error),
		});
		// It may have ended while the session was opened.
		if (this.responses.ended) session.close();
		this.responses.wake();
		return session;
	}

	/** Tells the consumer what became of its settlements: what holds, as soon as it is stored. */
	report({ final, failures }: SettledViews): void {
		this.#failures.push(...failures);
		if (failures.length > 0) this.responses.wake();
		if (final.length === 0) return;
		this.#session!.stored().then(
			() => {
				this.#settled.push(...final);
				this.responses.wake();
			},
			// The group has ended, and the stream with it.
			() => {},
		);
	}

	/** The consumer wants no more: what it settled is still confirmed, nothing else is sent. */
	async finish(): Promise<void> {
		this.#session?.close();
		await this.#session?.stored();
		this.responses.finish();
	}

	#produce(): Encoded | undefined {
		if (this.#session === undefined) return undefined;
		if (!this.#ready) {
			this.#ready = true;
			return consumeReady(this.#session.id);
		}
		if (this.#settled.length > 0) {
			const settled = this.#settled;
			this.#settled = [];
			return consumeSettled(settled);
		}
		if (this.#failures.length > 0) {
			const failures = this.#failures;
			this.#failures = [];
			return consumeFailures(failures, this.#call.requestId);
		}
		const output = this.#session.collect();
		return output && consumeOutput(output, this.#deps.bus.log.epoch);
	}

	#release(): void {
		this.#session?.close(endingOf(this.#call.signal.reason) === "draining");
	}
}

/** The calling plugin's id. Refuses callers of another kind with CALLER_NOT_ALLOWED. */
export function consumerOf(caller: Caller): string {
	if (caller.kind === "plugin") return caller.id;
	throw new HubError("CALLER_NOT_ALLOWED", "durable subscriptions are for plugins", {
		metadata: { caller: caller.kind },
	});
}

/** The grants that a durable subscription needs. */
function consumeActions({ patterns, replays }: DurableDefinition): readonly EventAction[] {
	return durableActions(patterns, replays);
}

/** `subscribe`, and `replay` for what starts in the past. */
export function durableActions(patterns: DurableDefinition["patterns"], replays: boolean): readonly EventAction[] {
	const subscribe = { kind: "subscribe", patterns } as const;
	return replays ? [subscribe, { kind: "replay", patterns }] : [subscribe];
}
