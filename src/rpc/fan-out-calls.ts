import { hash } from "node:crypto";
import { create, toBinary } from "@bufbuild/protobuf";
import { MessageSchema } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import {
	BroadcastFilterSchema,
	type BroadcastRequest,
	type BroadcastFilter as FilterMessage,
} from "#gen/qirvo/hub/v1/topics_pb.js";
import { HubError } from "../hub-error.ts";
import type { BroadcastAudience } from "../messaging/broadcast-audience.ts";
import type { FanOut, FanOutMessage, FanOutOutcome } from "../messaging/fan-out.ts";
import { parseMessage } from "../messaging/message-draft.ts";
import type { TopicMembers } from "../messaging/topic-members.ts";
import type { TopicAction } from "../security/actions.ts";
import type { ContentFacts } from "../security/content-rule.ts";
import type { Guard } from "../security/guard.ts";
import type { Reach } from "../security/reach.ts";
import { parseSubject, type Subject } from "../subjects/subject.ts";
import { WireReader } from "../wire/wire-reader.ts";
import { parseBroadcastFilter } from "./broadcast-filter.ts";
import { type Call, Raw } from "./call.ts";
import { visibleError } from "./error-codes.ts";
import { durabilityOf, type MessageIntake, pluginOf } from "./message-intake.ts";
import { merged } from "./send-frames.ts";

export interface FanOutDeps {
	readonly topics: TopicMembers;
	readonly fanOut: FanOut;
	readonly audience: BroadcastAudience;
	readonly guard: Pick<Guard, "check" | "refusal" | "reach" | "mayReceiveTopic">;
}

/** `Publish` and `Broadcast`. */
export function fanOutCalls(deps: FanOutDeps & { readonly intake: MessageIntake }) {
	const { fanOut, audience, guard, intake } = deps;

	/** What was refused until then is recorded, however it ends. */
	const sendTo = (message: FanOutMessage, reach: Reach) => fanOut.send(message).finally(() => reach.record());

	const judged = ({ caller, requestId }: Call, reach: Reach) =>
		({
			refusal: (copy) => reach.refusal(copy),
			mayMirror: (recipient) => guard.refusal(caller, { kind: "mirror", recipient }) === undefined,
			failed: (recipient, error) => {
				reach.failed(recipient, error);
				return visibleError(error, requestId).reason;
			},
		}) satisfies Partial<FanOutMessage>;

	const publish = async (bytes: Uint8Array, call: Call) => {
		const source = pluginOf(call.caller);
		const view = readPublish(bytes);
		const topic = parseSubject(view.topic, "topic");
		const durability = durabilityOf(view.durability, "durability");
		const draft = intake.read(view.message, call, "", durability);
		const reach = admit(guard, call, { kind: "publish", topic }, draft.content, (field) => `message.${field}`);
		const message = {
			draft,
			source,
			origin: { kind: "publication", topic: topic.spelling },
			durability,
			recipients: subscribersOf(deps, topic),
			...judged(call, reach),
		} as const;
		return { result: describe(await sendTo(message, reach)) };
	};

	const broadcast = async (request: BroadcastRequest, call: Call) => {
		const source = pluginOf(call.caller);
		const event = parseSubject(request.event, "event");
		const filter = parseBroadcastFilter(request.filter, "filter");
		const { id, attributes, data } = request;
		const message = create(MessageSchema, { id, type: request.event, attributes, ...(data && { payload: data }) });
		const draft = placed(
			(field) => field.replace(/^message\./, ""),
			() => parseMessage(toBinary(MessageSchema, message), source, "message", "transient"),
		);
		const action = { kind: "broadcast", event } as const;
		const reach = admit(guard, call, action, draft.content, (field) => field.replace(/^payload/, "data"));
		const copies = {
			draft,
			source,
			origin: { kind: "broadcast" },
			durability: "transient",
			recipients: audience.select(filter, source),
			selection: selectionOf(request.filter),
			...judged(call, reach),
		} as const;
		return { result: describe(await sendTo(copies, reach)) };
	};

	return { publish: new Raw(publish), broadcast };
}

/** The plugins that get what is published to the topic. A subscription that its plugin's grants no longer cover is none. */
export function subscribersOf({ topics, guard }: FanOutDeps, topic: Subject): readonly string[] {
	return topics.subscribers(topic.canonical).filter((pluginId) => guard.mayReceiveTopic(pluginId, topic));
}

/** Refuses what the caller may not do for many; `place` tells where in the request the content stands. */
export function admit(
	guard: FanOutDeps["guard"],
	call: Call,
	action: TopicAction,
	content: ContentFacts,
	place: (field: string) => string,
): Reach {
	placed(place, () => guard.check(call.caller, action, content, call.requestId));
	return guard.reach(call.caller, action, call.requestId);
}

function placed<R>(place: (field: string) => string, run: () => R): R {
	try {
		return run();
	} catch (error) {
		throw error instanceof HubError ? error.placed(place) : error;
	}
}

function describe({ id, delivered, queued, skipped, merged, duplicate }: FanOutOutcome) {
	const reasons = [...skipped].map(([reason, count]) => ({ reason, count }));
	const total = reasons.reduce((sum, { count }) => sum + count, 0);
	return { id, delivered, queued, skipped: total, reasons, merged, duplicate };
}

function readPublish(bytes: Uint8Array) {
	const reader = new WireReader(bytes);
	let topic = "";
	let message: Uint8Array | undefined;
	let durability: number | undefined;
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		if (number === 1) topic = reader.string();
		else if (number === 2) message = merged(message, reader.view());
		else if (number === 3) durability = reader.number();
		else reader.skip();
	}
	return { topic, message, durability };
}

function selectionOf(filter: FilterMessage | undefined): string {
	return filter === undefined ? "" : hash("sha1", toBinary(BroadcastFilterSchema, filter), "base64");
}
