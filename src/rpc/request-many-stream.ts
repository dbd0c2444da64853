import { toBinary } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { AddressSchema, MessageSchema, type RequestManyRequest } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { Clock } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import type { RecipientAddress } from "../messaging/address.ts";
import { copiesAtOnce } from "../messaging/fan-out.ts";
import type { MessageDraft } from "../messaging/message-draft.ts";
import { RequestMany } from "../messaging/request-many.ts";
import type { Journey } from "../messaging/route-table.ts";
import type { Router } from "../messaging/router.ts";
import type { Routes } from "../messaging/routes.ts";
import type { SharedDraft } from "../messaging/shared-draft.ts";
import { SharedJourneys } from "../messaging/shared-journeys.ts";
import type { Reach } from "../security/reach.ts";
import { parseSubject, type Subject } from "../subjects/subject.ts";
import type { Call, Encoded } from "./call.ts";
import { visibleError } from "./error-codes.ts";
import { admit, type FanOutDeps, subscribersOf } from "./fan-out-calls.ts";
import type { MessageDispatch } from "./message-dispatch.ts";
import { type MessageIntake, pluginOf, replyDeadline } from "./message-intake.ts";
import type { PulledStream } from "./pulled-stream.ts";
import { ReplyStream } from "./reply-stream.ts";
import { readAddress } from "./send-frames.ts";
import { encodeReply } from "./send-results.ts";
import type { StreamRegistry } from "./stream-ending.ts";

export interface RequestManyDeps extends FanOutDeps {
	readonly clock: Clock;
	readonly router: Router;
	readonly routes: Routes;
	readonly intake: MessageIntake;
	readonly dispatch: MessageDispatch;
	readonly streams: StreamRegistry;
}

const MAX_ADDRESSES = 256;
const MAX_SUBSCRIBERS = 1000;
const MAX_STALL_MS = 60 * 60 * 1000;

const KIND_REQUEST = Object.freeze({ kind: "request" });

/** One `RequestMany` call. Refuses, and throws where nobody can be asked. */
export function requestMany(deps: RequestManyDeps, request: RequestManyRequest, call: Call): PulledStream<Encoded> {
	const { router, routes, clock, intake, fanOut } = deps;
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
	const topic = request.topic === "" ? undefined : parseSubject(request.topic, "topic");
	const origin = topic === undefined ? KIND_REQUEST : ({ kind: "publication", topic: topic.spelling } as const);
	const draft = fanOut.share(read, origin);
	const journeys = new SharedJourneys({
		routes,
		resolve: (address) => router.resolve(address, source),
		draft,
		source,
		mayReachSender: topic === undefined,
	});
	let recordRefusals = () => {};
	const down = new ReplyStream(deps, call, draft.id, () => recordRefusals());
	const many = new RequestMany({
		clock,
		deadline,
		stallMs,
		maxReplies: request.maxReplies,
		onReply: (content, from) => down.reply(encodeReply(draft.id, content, from)),
		onFailure: (recipient, error) => down.failure(recipient, error),
		onEnd: (summary) => down.end({ ...summary, merged: journeys.merged }),
	});
	const fail = (error: unknown) => {
		many[Symbol.dispose]();
		down.responses.fail(error);
	};
	const asking: Asking = { deps, call, source, draft, deadline, journeys, many };
	try {
		let all: AsyncAsking;
		if (topic === undefined) all = askAddressed(asking, request, read);
		else {
			const reach = admit(deps.guard, call, { kind: "publish", topic }, read.content, inMessage);
			recordRefusals = () => reach.record();
			all = askSubscribers(asking, topic, reach, down);
			reach.record();
		}
		if (many.waiting === 0 && all.isDone) throw nobody(down.refusals, call.requestId);
		down.open(many);
		if (all.isDone) many.begin();
		else all.done.then(() => many.begin(), fail);
	} catch (error) {
		fail(error);
	}
	return down.responses;
}

/** Told what kept a request that middleware looked at from being asked. */
type OnRefused = (error: unknown) => void;

/** What is asked, of whom so far, and on whose behalf. */
interface Asking {
	readonly deps: RequestManyDeps;
	readonly call: Call;
	readonly source: string;
	readonly draft: SharedDraft;
	readonly deadline: number;
	readonly journeys: SharedJourneys;
	readonly many: RequestMany;
}

/** All that are asked; not done where some wait until middleware has looked at others. */
interface AsyncAsking {
	readonly isDone: boolean;
	readonly done: Promise<void>;
}

/** Each is judged as the recipient of a `Request` is. */
function askAddressed(asking: Asking, { to }: RequestManyRequest, { content }: MessageDraft): AsyncAsking {
	const { deps, call, journeys, many } = asking;
	if (to.length > MAX_ADDRESSES) throw HubError.field("to", `has more than ${MAX_ADDRESSES} entries`);
	const addresses = to.map((address, index) => readAddress(toBinary(AddressSchema, address), `to[${index}]`));
	const admitted: Journey[] = [];
	let isContentChecked = false;
	for (const address of addresses) {
		const journey = ledFrom(asking, address);
		if (journey === undefined) continue;
		try {
			deps.intake.check(call, address, journey, isContentChecked ? undefined : content, "");
		} catch (error) {
			// It is the same for all of them.
			if (error instanceof HubError && error.reason === "INVALID_CONTENT") throw error;
			journeys.refuse(journey.recipient);
			many.fail(journey.recipient === "" ? address.name : journey.recipient, error);
			continue;
		}
		isContentChecked = true;
		admitted.push(journey);
	}
	return askAll(asking, admitted, () => undefined);
}

/** Each is judged as the recipient of a publication is. */
function askSubscribers(asking: Asking, topic: Subject, reach: Reach, { responses }: ReplyStream): AsyncAsking {
	const { deps, source, journeys, many } = asking;
	const subscribers = subscribersOf(deps, topic).filter((pluginId) => pluginId !== source);
	if (subscribers.length > MAX_SUBSCRIBERS) throw tooMany(subscribers.length);
	const admitted: Journey[] = [];
	for (const name of subscribers) {
		const journey = ledFrom(asking, { kind: "plugin", name });
		if (journey === undefined) continue;
		const refusal = reach.refusal({ ...journey, redirected: journey.recipient !== name });
		if (refusal === undefined) admitted.push(journey);
		else {
			journeys.refuse(journey.recipient);
			many.fail(journey.recipient, refusal);
		}
	}
	return askAll(asking, admitted, ({ recipient }) => (error) => {
		reach.failed(recipient, error);
		// What comes after the end is not gathered any more.
		if (responses.ended) reach.record();
	});
}

/** Undefined: it is not asked; a failure was told. */
function ledFrom({ deps, call, journeys, many }: Asking, address: RecipientAddress): Journey | undefined {
	try {
		return deps.intake.led(call, address, () => journeys.lead(address));
	} catch (error) {
		many.fail(address.name, error);
		return undefined;
	}
}

/** At once where no middleware looks at them; else as many at a time as of a publication. */
function askAll(
	asking: Asking,
	journeys: readonly Journey[],
	refusedOf: (journey: Journey) => OnRefused | undefined,
): AsyncAsking {
	const { many, draft } = asking;
	const most = copiesAtOnce(draft);
	many.expect(journeys.length);
	let isDone = false;
	const run = async () => {
		let inspected: Promise<void>[] = [];
		for (const journey of journeys) {
			if (inspected.length >= most) {
				await Promise.all(inspected);
				inspected = [];
				if (many.ended) break;
			}
			const looked = ask(asking, journey, refusedOf(journey));
			if (looked !== undefined) inspected.push(looked);
		}
		isDone = true;
	};
	const done = run();
	return { isDone, done };
}

function ask(asking: Asking, { recipient, mirrors }: Journey, refused?: OnRefused): Promise<void> | undefined {
	const { deps, call, source, draft, deadline, journeys, many } = asking;
	const admitted = { draft, source, recipient, mirrors, journeys };
	return many.ask(recipient, (onOutcome) => {
		return deps.dispatch.ask(call, admitted, deadline, (_, outcome) => onOutcome(outcome), refused);
	});
}

function inMessage(field: string): string {
	return `message.${field}`;
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
