import { AttachResponseSchema } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { Clock } from "../clock/clock.ts";
import type { DeliveryPolicy } from "../messaging/delivery-policy.ts";
import type { ReceivingSession } from "../messaging/receiving-session.ts";
import type { Router } from "../messaging/router.ts";
import { encodeDeliveries } from "../messaging/stamped-message.ts";
import type { Guard } from "../security/guard.ts";
import { WireWriter } from "../wire/wire-writer.ts";
import { type Call, Encoded } from "./call.ts";
import type { AnswerFailure } from "./delivery-answers.ts";
import { encodeEntryError } from "./entry-error.ts";
import { pluginOf } from "./message-intake.ts";
import { DELIVERY_FRAMES, encodeFrame } from "./messaging-frames.ts";
import { PulledStream } from "./pulled-stream.ts";
import { endingOf, type StreamRegistry } from "./stream-ending.ts";
import { readyFrame } from "./stream-frames.ts";

export interface DeliveryStreamDeps {
	readonly clock: Clock;
	readonly router: Router;
	readonly guard: Pick<Guard, "check" | "recheck">;
	readonly streams: StreamRegistry;
}

/** Fields of `AttachResponse.frame`. */
const BATCH_FIELD = 2;
const FAILURES_FIELD = 7;

const RECEIVE = Object.freeze({ kind: "receive" });

/** The down side of a receiving session, the same for `Attach` and `Receive`. The session lives as long as it does. */
export class DeliveryStream {
	/** What goes down. Nothing does before `open`. */
	readonly responses: PulledStream<Encoded>;
	readonly #deps: DeliveryStreamDeps;
	readonly #call: Call;
	readonly #pluginId: string;
	#failures: AnswerFailure[] = [];
	#session: ReceivingSession | undefined;
	#ready = false;

	/** Refuses callers that may not receive. */
	constructor(deps: DeliveryStreamDeps, call: Call) {
		this.#deps = deps;
		this.#call = call;
		this.#pluginId = pluginOf(call.caller);
		deps.guard.check(call.caller, RECEIVE, undefined, call.requestId);
		this.responses = new PulledStream({
			clock: deps.clock,
			call,
			streams: deps.streams,
			recheck: () => deps.guard.recheck(call.caller, RECEIVE),
			frames: DELIVERY_FRAMES,
			produce: () => this.#produce(),
			onEnd: () => this.#release(),
		});
	}

	/** Failures that are not on their way yet. */
	get failures(): number {
		return this.#failures.length;
	}

	/** Refuses like `Router.attach`. */
	open(instanceId: string, maxInFlight: number, policy: DeliveryPolicy): ReceivingSession {
		const session = this.#deps.router.attach(this.#pluginId, instanceId, maxInFlight, policy);
		this.#session = session;
		session.listen({
			wake: () => this.responses.wake(),
			closed: (error) => this.responses.fail(error),
		});
		this.responses.wake();
		return session;
	}

	/** Tells the recipient what came to nothing. */
	report(failure: AnswerFailure): void {
		this.#failures.push(failure);
		this.responses.wake();
	}

	/** The recipient wants no more: what it was told to settle may still fail, nothing else is sent. */
	finish(): void {
		this.#session?.close();
		this.responses.finish();
	}

	#produce(): Encoded | undefined {
		if (this.#session === undefined) return undefined;
		if (!this.#ready) {
			this.#ready = true;
			return encodeFrame(AttachResponseSchema, { frame: readyFrame(this.#session.id) });
		}
		if (this.#failures.length > 0) {
			const failures = encodeFailures(this.#failures, this.#call.requestId);
			this.#failures = [];
			return new Encoded([failures]);
		}
		const output = this.#session.collect();
		if (output === undefined) return undefined;
		if (output.kind === "deliveries") return new Encoded([encodeDeliveries(BATCH_FIELD, output.deliveries)]);
		const { deliveryId, reason } = output;
		return encodeFrame(AttachResponseSchema, { frame: { case: "cancelled", value: { deliveryId, reason } } });
	}

	#release(): void {
		this.#session?.close(endingOf(this.#call.signal.reason) === "draining");
	}
}

function encodeFailures(failures: readonly AnswerFailure[], requestId: string): Uint8Array {
	const batch = new WireWriter();
	for (const { deliveryId, error } of failures) {
		batch.bytes(1, encodeFailure(deliveryId, encodeEntryError(error, requestId)));
	}
	const frame = new WireWriter(batch.length + 16);
	frame.bytes(FAILURES_FIELD, batch.finish());
	return frame.finish();
}

function encodeFailure(deliveryId: string, error: Uint8Array): Uint8Array {
	const failure = new WireWriter();
	failure.string(1, deliveryId);
	failure.bytes(2, error);
	return failure.finish();
}
