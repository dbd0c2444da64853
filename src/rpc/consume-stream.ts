import type { ConsumerSession } from "../events/durable/consumer-session.ts";
import { HubError } from "../hub-error.ts";
import type { Call, Encoded } from "./call.ts";
import { readConsumeFrame } from "./consume-frames.ts";
import { settleAll } from "./consumer-settlements.ts";
import { ConsumerStream, type ConsumerStreamDeps } from "./consumer-stream.ts";
import type { PulledStream } from "./pulled-stream.ts";

/** Failures not yet on their way, above which the stream is not read on; one frame's may come on top. */
const MAX_FAILURES = 1000;

/** One `Consume` call: a consumer's stream whose settlements come up the same call. */
export class ConsumeStream {
	readonly #down: ConsumerStream;
	#session: ConsumerSession | undefined;

	constructor(deps: ConsumerStreamDeps, requests: AsyncIterable<Uint8Array>, call: Call) {
		this.#down = new ConsumerStream(deps, call);
		this.#read(requests).catch((error: unknown) => this.#down.responses.fail(error));
	}

	/** What goes down. */
	get responses(): PulledStream<Encoded> {
		return this.#down.responses;
	}

	async #read(requests: AsyncIterable<Uint8Array>): Promise<void> {
		for await (const bytes of requests) {
			if (this.responses.ended) return;
			await this.#take(bytes);
			while (this.#down.failures >= MAX_FAILURES && !this.responses.ended) await this.responses.pulled();
		}
		await this.#down.finish();
	}

	async #take(bytes: Uint8Array): Promise<void> {
		const frame = readConsumeFrame(bytes);
		if (this.#session === undefined) {
			if (frame.kind !== "open") throw HubError.field("frame", "the first frame must be `open`");
			this.#session = await this.#down.open(frame.name, "open.name", frame.maxInFlight);
			return;
		}
		switch (frame.kind) {
			case "open":
				throw HubError.field("frame", "`open` is for the first frame only");
			case "credit":
				this.#session.setMaxInFlight(frame.maxInFlight);
				return;
			case "settlement":
				this.#down.report(settleAll(this.#session, frame.settlements));
		}
	}
}
