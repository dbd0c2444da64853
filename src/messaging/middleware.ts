import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
	type Message,
	MessageSchema,
	type ReplyContent,
	ReplyContentSchema,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { type Payload, PayloadSchema } from "#gen/qirvo/hub/v1/payload_pb.js";
import { parsePluginId } from "../subjects/plugin-id.ts";
import { INSPECTOR_LIMITS, type Inspector, type Verdict } from "./inspector.ts";
import { InspectorFilter } from "./inspector-filter.ts";

/** What a middleware may know of a message beside the message. */
export interface MiddlewareContext {
	/** The plugin that sends. */
	readonly from: string;
	/** The plugin that is to receive. */
	readonly to: string;
	/** Aborts when the hub no longer waits for the verdict. */
	readonly signal: AbortSignal;
}

/** What is to become of a message. */
export type MiddlewareVerdict =
	/** It goes on as it is. */
	| { readonly kind: "pass" }
	/**
	 * It goes on with another payload, other attributes, or both; what is not named stays. The hub checks the content as it
	 * checks a sender's, and adds the middleware's name to the attribute `hub-middleware`.
	 */
	| {
			readonly kind: "change";
			readonly payload?: MessageInitShape<typeof PayloadSchema>;
			/** Set over those that are there; undefined takes one away. */
			readonly attributes?: Readonly<Record<string, string | undefined>>;
	  }
	/**
	 * A request is answered so, and goes no further; of one to several it counts as that recipient's reply. Of a one-way message, a
	 * copy of a publication or broadcast among them, it counts as a failure.
	 */
	| { readonly kind: "answer"; readonly reply: MessageInitShape<typeof ReplyContentSchema> }
	/** It is refused with MESSAGE_REFUSED and this reason, which its sender reads. */
	| { readonly kind: "refuse"; readonly reason: string };

/**
 * Looks at messages and requests on their way, after the guard has admitted them; at each recipient's copy of one for many.
 * Replies are not shown, nor are copies that a mirror route makes.
 */
export interface Middleware {
	/** Of the form of a plugin id; stands in `hub-middleware`. */
	readonly name: string;
	/** Lower is asked first, -1,000 to 1,000; among equals the name decides. Default 0. */
	readonly order?: number;
	/** Patterns of message types, any of which admits. Default: any type. */
	readonly types?: readonly string[];
	/** Default: any sender. */
	readonly senders?: readonly string[];
	/** Default: any recipient. */
	readonly recipients?: readonly string[];
	/** How long a verdict may take, 1 to 5,000 ms. Default 250. */
	readonly deadlineMs?: number;
	/** What becomes of a message whose verdict is late, fails, or cannot be carried out: it passes, or is refused. */
	readonly onFailure: "open" | "closed";
	inspect(message: Message, context: MiddlewareContext): MiddlewareVerdict | Promise<MiddlewareVerdict>;
}

/** Makes an inspector of a middleware of this process. Throws a RangeError or `HubError` on what could not work. */
export function middlewareInspector(
	middleware: Middleware,
	onFault: (what: string, error: unknown) => void,
): Inspector {
	const { order = 0, types = [], senders = [], recipients = [] } = middleware;
	const { order: maxOrder, defaultDeadlineMs, maxDeadlineMs } = INSPECTOR_LIMITS;
	const { deadlineMs = defaultDeadlineMs } = middleware;
	const name = parsePluginId(middleware.name, "name");
	if (!(Math.abs(order) <= maxOrder)) throw new RangeError(`order of "${name}": must be -1,000 to 1,000`);
	if (!(deadlineMs >= 1 && deadlineMs <= maxDeadlineMs)) {
		throw new RangeError(`deadlineMs of "${name}": must be 1 to ${maxDeadlineMs}`);
	}
	const filter = new InspectorFilter({ types, senders, recipients }, "");
	return {
		name,
		id: name,
		order,
		deadlineMs,
		failsOpen: middleware.onFailure === "open",
		admits: (type, from, to) => filter.admits(type, from, to),
		inspect(bytes, { from, to }, settle) {
			const controller = new AbortController();
			const { signal } = controller;
			const judge = async () =>
				toVerdict(await middleware.inspect(fromBinary(MessageSchema, bytes), { from, to, signal }));
			judge().then(settle, (error: unknown) => {
				settle(undefined);
				if (!signal.aborted) onFault(`middleware "${name}"`, error);
			});
			return () => controller.abort();
		},
	};
}

function toVerdict(verdict: MiddlewareVerdict): Verdict {
	switch (verdict.kind) {
		case "change": {
			const { payload, attributes = {} } = verdict;
			return {
				kind: "change",
				payload: payload && encodePayload(payload),
				attributes: new Map(Object.entries(attributes)),
			};
		}
		case "answer":
			return {
				kind: "answer",
				reply: toBinary(ReplyContentSchema, create(ReplyContentSchema, verdict.reply) as ReplyContent),
			};
		case "pass":
		case "refuse":
			return verdict;
	}
}

function encodePayload(payload: MessageInitShape<typeof PayloadSchema>): Uint8Array {
	return toBinary(PayloadSchema, create(PayloadSchema, payload) as Payload);
}
