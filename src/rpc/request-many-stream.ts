import { toBinary } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import {
	AddressSchema,
	RequestManyEnd as EndEnum,
	MessageSchema,
	type RequestManyRequest,
	RequestManyResponseSchema,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { Clock } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import type { RecipientAddress } from "../messaging/address.ts";
import type { MessageDraft } from "../messaging/message-draft.ts";
import { RequestMany, type RequestManyEnd, type RequestManySummary } from "../messaging/request-many.ts";
import type { Router } from "../messaging/router.ts";
import type { Guard } from "../security/guard.ts";
import { parseSubject } from "../subjects/subject.ts";
import { WireWriter } from "../wire/wire-writer.ts";
import { type Call, Encoded } from "./call.ts";
import { encodeEntryError } from "./entry-error.ts";
import { visibleError } from "./error-codes.ts";
import { admit, type FanOutDeps, subscribersOf } from "./fan-out-calls.ts";
import { type MessageIntake, pluginOf, replyDeadline } from "./message-intake.ts";
import { encodeFrame } from "./messaging-frames.ts";
import { PulledStream } from "./pulled-stream.ts";
import { readAddress } from "./send-frames.ts";
import { encodeReply } from "./send-results.ts";
import type { StreamRegistry } from "./stream-ending.ts";
import { readyFrame, streamFrames } from "./stream-frames.ts";

export interface RequestManyDeps extends FanOutDeps {
	readonly clock: Clock;
	readonly router: Router;
	readonly intake: MessageIntake;
	readonly streams: StreamRegistry;
	readonly guard: FanOutDeps["guard"] & Pick<Guard, "check">;
}

const MAX_ADDRESSES = 256;
const MAX_SUBSCRIBERS = 1000;
const MAX_STALL_MS = 60 * 60 * 1000;

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

/** One `RequestMany` call. Refuses, and throws where nobody can be asked. */
export function requestMany(deps: RequestManyDeps, request: RequestManyRequest, call: Call): PulledStream<Encoded> {
	const { router, clock, intake, fanOut } = deps;
	const source = pluginOf(call.caller);
	const timeoutMs = request.timeout && durationMs(request.timeout);
	const deadline = replyDeadline(clock.monotonic(), timeoutMs, call, "timeout");
	const stallMs = request.stallTimeout && durationMs(request.stallTimeout);
	if (stallMs !== undefined && !(stallMs > 0 && stallMs <= MAX_STALL_MS)) {
		throw HubError.field("stall_timeout", "must be more than 0 and at most 1 hour");
	}
	if ((request.topic === "") === (request.to.length === 0)) {
		throw HubError.field("to", "either `to` or `topic` must be set");
	}
	const bytes = request.message && toBinary(MessageSchema, request.message);
	const read = intake.read(bytes, call, "", "transient");
	const asked = request.topic === "" ? undefined : parseSubject(request.topic, "topic");
	const origin = asked === undefined ? KIND_REQUEST : ({ kind: "publication", topic: asked.spelling } as const);
	const draft = fanOut.share(read, origin);
	const down = new ReplyStream(deps, call, draft.id);
	const many = new RequestMany({
		router,
		clock,
		draft,
		source,
		deadline,
		stallMs,
		maxReplies: request.maxReplies,
		onReply: (content, from) => down.reply(encodeReply(draft.id, content, from)),
		onFailure: (recipient, error) => down.failure(recipient, error),
		onEnd: (summary) => down.end(summary),
	});
	try {
		if (asked === undefined) askAddressed(deps, request, call, read, many);
		else {
			const reach = admit(deps.guard, call, { kind: "publish", topic: asked }, read.content, inMessage);
			const subscribers = subscribersOf(deps, asked).filter((pluginId) => pluginId !== source);
			if (subscribers.length > MAX_SUBSCRIBERS) throw tooMany(subscribers.length);
			for (const recipient of subscribers) {
				const refusal = reach.refusal(recipient);
				if (refusal === undefined) many.ask(recipient);
				else many.fail(recipient, refusal);
			}
			reach.record();
		}
		if (many.waiting === 0) throw nobody(down.refusals, call.requestId);
		down.open(many);
		many.begin();
	} catch (error) {
		many[Symbol.dispose]();
		down.responses.fail(error);
	}
	return down.responses;
}

const KIND_REQUEST = Object.freeze({ kind: "request" });

function inMessage(field: string): string {
	return `message.${field}`;
}

function askAddressed(
	{ router, guard }: RequestManyDeps,
	{ to }: RequestManyRequest,
	call: Call,
	{ content }: MessageDraft,
	many: RequestMany,
): void {
	if (to.length > MAX_ADDRESSES) throw HubError.field("to", `has more than ${MAX_ADDRESSES} entries`);
	const addresses = to.map((address, index) => readAddress(toBinary(AddressSchema, address), `to[${index}]`));
	const source = pluginOf(call.caller);
	const recipients = new Set<string>();
	let isContentChecked = false;
	for (const address of addresses) {
		const recipient = resolved(router, address, source, many);
		if (recipient === undefined || recipients.has(recipient)) continue;
		recipients.add(recipient);
		const action = { kind: "send", recipient, recipientExists: router.knows(recipient) } as const;
		try {
			guard.check(call.caller, action, isContentChecked ? undefined : content, call.requestId);
		} catch (error) {
			// It is the same for all of them.
			if (error instanceof HubError && error.reason === "INVALID_CONTENT") throw error.placed(inMessage);
			many.fail(recipient, error);
			continue;
		}
		isContentChecked = true;
		many.ask(recipient);
	}
}

function resolved(router: Router, address: RecipientAddress, source: string, many: RequestMany): string | undefined {
	try {
		return router.resolve(address, source);
	} catch (error) {
		many.fail(address.name, error);
		return undefined;
	}
}

/** What goes down: what came since the last frame, and the summary when that is gone. */
class ReplyStream {
	readonly responses: PulledStream<Encoded>;
	/** Of what could not be asked, until there are frames to say it in. */
	readonly refusals: unknown[] = [];
	readonly #call: Call;
	readonly #id: string;
	#replies: Uint8Array[] = [];
	#failures: Uint8Array[] = [];
	#bytes = 0;
	#many: RequestMany | undefined;
	#summary: RequestManySummary | undefined;
	#ready = false;

	constructor(deps: RequestManyDeps, call: Call, id: string) {
		this.#call = call;
		this.#id = id;
		this.responses = new PulledStream({
			clock: deps.clock,
			call,
			// The recipients were judged once, as that of a request is.
			streams: deps.streams,
			frames: FRAMES,
			produce: () => this.#produce(),
			onEnd: () => this.#many?.[Symbol.dispose](),
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

	end(summary: RequestManySummary): void {
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

/** Why nobody was asked: the one reason, where all have the same. */
function nobody(refusals: readonly unknown[], requestId: string): HubError {
	const errors = refusals.map((error) => visibleError(error, requestId));
	const first = errors[0];
	if (first !== undefined && errors.every(({ reason }) => reason === first.reason)) return first;
	const problem =
		first === undefined ? "nobody else is subscribed to the topic" : "none of the recipients can be asked";
	return new HubError("RECIPIENT_UNAVAILABLE", problem, { metadata: { recipients: String(errors.length) } });
}

function tooMany(count: number): HubError {
	return new HubError("LIMIT_EXCEEDED", `the topic has ${count} subscribers; at most ${MAX_SUBSCRIBERS} can be asked`, {
		metadata: { limit: String(MAX_SUBSCRIBERS) },
	});
}

function tooSlow(): HubError {
	return new HubError("SLOW_CONSUMER", "the caller reads its replies too slowly", {
		metadata: { limit: String(MAX_WAITING_BYTES) },
	});
}
