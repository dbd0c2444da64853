import { type InterceptRequest, InterceptResponseSchema } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { CONTENT_LIMITS } from "../content/content-limits.ts";
import { HubError } from "../hub-error.ts";
import type { InterceptSession, OutgoingInspection } from "../messaging/intercept-session.ts";
import type { Interceptors } from "../messaging/interceptors.ts";
import type { AuditRecorder } from "../security/audit-entry.ts";
import { principalOf } from "../security/caller.ts";
import { WireWriter } from "../wire/wire-writer.ts";
import { creditWithin } from "./attach-frames.ts";
import { type Call, Encoded } from "./call.ts";
import type { DeliveryStreamDeps } from "./delivery-stream.ts";
import { parseInterceptOpen, readVerdict } from "./intercept-request.ts";
import { pluginOf } from "./message-intake.ts";
import { encodeFrame, INTERCEPT_FRAMES } from "./messaging-frames.ts";
import { PulledStream } from "./pulled-stream.ts";
import { readyFrame } from "./stream-frames.ts";

export type InterceptStreamDeps = Pick<DeliveryStreamDeps, "clock" | "guard" | "streams"> & {
	readonly interceptors: Interceptors;
	readonly audit: AuditRecorder;
};

const INTERCEPT = Object.freeze({ kind: "intercept" });
const BATCH_FIELD = 2;

/** One `Intercept` call. */
export class InterceptStream {
	/** What goes down. Nothing does before the first frame is there. */
	readonly responses: PulledStream<Encoded>;
	readonly #deps: InterceptStreamDeps;
	readonly #call: Call;
	readonly #pluginId: string;
	#session: InterceptSession | undefined;
	#ready = false;

	/** Refuses callers that may not intercept. */
	constructor(deps: InterceptStreamDeps, requests: AsyncIterable<InterceptRequest>, call: Call) {
		this.#deps = deps;
		this.#call = call;
		this.#pluginId = pluginOf(call.caller);
		deps.guard.check(call.caller, INTERCEPT, undefined, call.requestId);
		this.responses = new PulledStream({
			clock: deps.clock,
			call,
			streams: deps.streams,
			recheck: () => deps.guard.recheck(call.caller, INTERCEPT),
			frames: INTERCEPT_FRAMES,
			produce: () => this.#produce(),
			onEnd: () => this.#session?.close(false),
		});
		this.#read(requests).catch((error: unknown) => this.responses.fail(error));
	}

	async #read(requests: AsyncIterable<InterceptRequest>): Promise<void> {
		for await (const { frame } of requests) {
			if (this.responses.ended) return;
			this.#take(frame);
		}
		this.responses.finish();
	}

	#take(frame: InterceptRequest["frame"]): void {
		if (this.#session === undefined) {
			if (frame.case !== "open") throw HubError.field("frame", "the first frame must be `open`");
			this.#open(frame.value);
			return;
		}
		switch (frame.case) {
			case "verdicts": {
				const { verdicts } = frame.value;
				if (verdicts.length > CONTENT_LIMITS.batchEntries) {
					throw HubError.field("verdicts.verdicts", `has more than ${CONTENT_LIMITS.batchEntries} entries`);
				}
				for (const verdict of verdicts) this.#session.answer(Number(verdict.inspectionId), readVerdict(verdict));
				return;
			}
			case "credit":
				this.#session.setMaxInFlight(creditWithin(frame.value.maxInFlight, "credit.max_in_flight"));
				return;
			case "withdraw":
				this.#session.close(true);
				this.responses.finish();
				return;
			case "open":
				throw HubError.field("frame", "`open` is for the first frame only");
			case undefined:
				throw HubError.field("frame", "must be set");
		}
	}

	#open(open: Parameters<typeof parseInterceptOpen>[0]): void {
		const { guard, interceptors, audit } = this.#deps;
		const { caller, requestId } = this.#call;
		const mayIntercept = () => {
			try {
				guard.recheck(caller, INTERCEPT);
				return true;
			} catch {
				return false;
			}
		};
		const settings = { ...parseInterceptOpen(open), pluginId: this.#pluginId, mayIntercept };
		const session = interceptors.open(settings);
		const { name, failsOpen } = settings;
		audit.record({
			event: "interceptor_opened",
			actor: principalOf(caller),
			target: `interceptor:${this.#pluginId}/${name}`,
			details: { types: open.types.join(","), on_failure: failsOpen ? "open" : "closed" },
			requestId,
		});
		this.#session = session;
		session.listen({ wake: () => this.responses.wake(), ended: (error) => this.responses.fail(error) });
		this.responses.wake();
	}

	#produce(): Encoded | undefined {
		if (this.#session === undefined) return undefined;
		if (!this.#ready) {
			this.#ready = true;
			return encodeFrame(InterceptResponseSchema, { frame: readyFrame(this.#call.requestId) });
		}
		const inspections = this.#session.collect();
		return inspections.length === 0 ? undefined : encodeInspections(inspections);
	}
}

function encodeInspections(inspections: readonly OutgoingInspection[]): Encoded {
	const batch = new WireWriter();
	for (const { id, message, timeLeftMs } of inspections) {
		const inspection = new WireWriter(message.byteLength + 64);
		inspection.varint(1, id);
		inspection.bytes(2, message);
		inspection.time(3, timeLeftMs);
		batch.bytes(1, inspection.finish());
	}
	const header = new WireWriter(16);
	header.header(BATCH_FIELD, batch.length);
	return new Encoded([header.finish(), batch.finish()]);
}
