import { RequestManyEnd as EndEnum, RequestManyResponseSchema } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { Clock } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import type { RequestMany, RequestManyEnd, RequestManySummary } from "../messaging/request-many.ts";
import { WireWriter } from "../wire/wire-writer.ts";
import { type Call, Encoded } from "./call.ts";
import { encodeEntryError } from "./entry-error.ts";
import { encodeFrame } from "./messaging-frames.ts";
import { PulledStream } from "./pulled-stream.ts";
import type { StreamRegistry } from "./stream-ending.ts";
import { readyFrame, streamFrames } from "./stream-frames.ts";

export interface ReplyStreamDeps {
	readonly clock: Clock;
	readonly streams: StreamRegistry;
}

/** What came of a request to several, and how many of them led to a plugin that was asked already. */
export interface SharedSummary extends RequestManySummary {
	readonly merged: number;
}

/** Bytes of replies not taken, above which the caller counts as too slow to go on; the last may go over. */
const MAX_WAITING_BYTES = 16 * 1024 * 1024;
/** Bytes of one frame of replies; the last may go over. */
const FRAME_BYTES = 256 * 1024;

/** Fields of `RequestManyResponse.frame`. */
const REPLIES_FIELD = 2;
const FAILURES_FIELD = 3;

const FRAMES = streamFrames((frame) => encodeFrame(RequestManyResponseSchema, { frame }));

const END_OF: Readonly<Record<RequestManyEnd, EndEnum>> = {
	complete: EndEnum.COMPLETE,
	maximum: EndEnum.MAXIMUM,
	stalled: EndEnum.STALLED,
	timeout: EndEnum.TIMEOUT,
};

/** The response side of one `RequestMany`: what came since the last frame, and the summary when that is gone. */
export class ReplyStream {
	readonly responses: PulledStream<Encoded>;
	/** Of what could not be asked, until there are frames to say it in. */
	readonly refusals: unknown[] = [];
	readonly #call: Call;
	readonly #id: string;
	#replies: Uint8Array[] = [];
	#failures: Uint8Array[] = [];
	#bytes = 0;
	#many: RequestMany | undefined;
	#summary: SharedSummary | undefined;
	#ready = false;

	/** `onEnd` is called once, as soon as nobody waits any more. */
	constructor(deps: ReplyStreamDeps, call: Call, id: string, onEnd: () => void) {
		this.#call = call;
		this.#id = id;
		this.responses = new PulledStream({
			clock: deps.clock,
			call,
			// The recipients were judged once, as that of a request is.
			streams: deps.streams,
			frames: FRAMES,
			produce: () => this.#produce(),
			onEnd: () => {
				this.#many?.[Symbol.dispose]();
				onEnd();
			},
		});
	}

	/** The stream ends the wait where it ends before. */
	open(many: RequestMany): void {
		this.#many = many;
		if (this.responses.ended) many[Symbol.dispose]();
	}

	reply(reply: Uint8Array): void {
		this.#replies.push(reply);
		this.#bytes += reply.byteLength;
		if (this.#bytes > MAX_WAITING_BYTES) this.responses.fail(tooSlow());
		else this.responses.wake();
	}

	failure(recipient: string, error: unknown): void {
		const failure = new WireWriter();
		failure.string(1, recipient);
		failure.bytes(2, encodeEntryError(error, this.#call.requestId));
		this.#failures.push(failure.finish());
		if (this.#many === undefined) this.refusals.push(error);
		this.responses.wake();
	}

	end(summary: SharedSummary): void {
		this.#summary = summary;
		this.responses.finish();
	}

	#produce(): Encoded | undefined {
		if (this.#many === undefined) return undefined;
		if (!this.#ready) {
			this.#ready = true;
			return encodeFrame(RequestManyResponseSchema, { frame: readyFrame(this.#id) });
		}
		if (this.#failures.length > 0) {
			const failures = this.#failures;
			this.#failures = [];
			return batch(FAILURES_FIELD, failures);
		}
		if (this.#replies.length > 0) return batch(REPLIES_FIELD, this.#takeReplies());
		const summary = this.#summary;
		if (summary === undefined) return undefined;
		this.#summary = undefined;
		const value = { ...summary, end: END_OF[summary.end] };
		return encodeFrame(RequestManyResponseSchema, { frame: { case: "summary", value } });
	}

	#takeReplies(): Uint8Array[] {
		let count = 0;
		for (let bytes = 0; count < this.#replies.length && bytes < FRAME_BYTES; count++) {
			bytes += this.#replies[count]!.byteLength;
		}
		const taken = this.#replies.slice(0, count);
		this.#replies = this.#replies.slice(count);
		for (const { byteLength } of taken) this.#bytes -= byteLength;
		return taken;
	}
}

/** A frame whose one field holds entries as its field 1. */
function batch(field: number, entries: readonly Uint8Array[]): Encoded {
	const writer = new WireWriter();
	for (const entry of entries) writer.bytes(1, entry);
	const body = writer.finish();
	const frame = new WireWriter(body.byteLength + 16);
	frame.bytes(field, body);
	return new Encoded([frame.finish()]);
}

function tooSlow(): HubError {
	return new HubError("SLOW_CONSUMER", "the caller reads its replies too slowly", {
		metadata: { limit: String(MAX_WAITING_BYTES) },
	});
}
