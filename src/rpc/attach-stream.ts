import { HubError } from "../hub-error.ts";
import type { ReceivingSession } from "../messaging/receiving-session.ts";
import { readAttachFrame } from "./attach-frames.ts";
import type { Call, Encoded } from "./call.ts";
import { type AnswerFailure, reply, settle } from "./delivery-answers.ts";
import { DeliveryStream, type DeliveryStreamDeps } from "./delivery-stream.ts";
import type { PulledStream } from "./pulled-stream.ts";

/** Failures not yet on their way, above which the stream is not read on; one frame's may come on top. */
const MAX_FAILURES = 1000;

/** One `Attach` call: a delivery stream whose answers come up the same call. */
export class AttachStream {
	readonly #down: DeliveryStream;
	#session: ReceivingSession | undefined;

	/** Refuses like `DeliveryStream`. */
	constructor(deps: DeliveryStreamDeps, requests: AsyncIterable<Uint8Array>, call: Call) {
		this.#down = new DeliveryStream(deps, call);
		this.#read(requests).catch((error: unknown) => this.#down.responses.fail(error));
	}

	/** What goes down. */
	get responses(): PulledStream<Encoded> {
		return this.#down.responses;
	}

	async #read(requests: AsyncIterable<Uint8Array>): Promise<void> {
		for await (const bytes of requests) {
			if (this.responses.ended) return;
			this.#take(bytes);
			while (this.#down.failures >= MAX_FAILURES && !this.responses.ended) await this.responses.pulled();
		}
		this.#down.finish();
	}

	#take(bytes: Uint8Array): void {
		const frame = readAttachFrame(bytes);
		if (this.#session === undefined) {
			if (frame.kind !== "open") throw HubError.field("frame", "the first frame must be `open`");
			this.#session = this.#down.open(frame.instanceId, frame.maxInFlight, frame.policy);
			return;
		}
		switch (frame.kind) {
			case "open":
				throw HubError.field("frame", "`open` is for the first frame only");
			case "credit":
				this.#session.setMaxInFlight(frame.maxInFlight);
				return;
			case "reply":
				this.#report(reply(this.#session, frame.reply));
				return;
			case "settlement":
				for (const settlement of frame.settlements) settle(this.#session, settlement, this.#report);
		}
	}

	readonly #report = (failure: AnswerFailure | undefined) => {
		if (failure !== undefined) this.#down.report(failure);
	};
}
