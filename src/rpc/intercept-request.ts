import { toBinary } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import {
	FailureMode,
	type InterceptOpen,
	ReplyContentSchema,
	type Verdict as WireVerdict,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { PayloadSchema } from "#gen/qirvo/hub/v1/payload_pb.js";
import { HubError } from "../hub-error.ts";
import { INSPECTOR_LIMITS, type Verdict } from "../messaging/inspector.ts";
import { InspectorFilter } from "../messaging/inspector-filter.ts";
import type { InterceptorSettings } from "../messaging/interceptors.ts";
import { parsePluginId } from "../subjects/plugin-id.ts";
import { openingCredit } from "./attach-frames.ts";

const MAX_REASON_BYTES = 512;

/** Refuses what could not work, with the path of what is wrong. */
export function parseInterceptOpen(open: InterceptOpen): Omit<InterceptorSettings, "pluginId" | "mayIntercept"> {
	const { order, failureMode } = open;
	const { order: maxOrder, defaultDeadlineMs, maxDeadlineMs } = INSPECTOR_LIMITS;
	const name = parsePluginId(open.name, "open.name");
	if (Math.abs(order) > maxOrder) throw HubError.field("open.order", `must be -${maxOrder} to ${maxOrder}`);
	if (open.types.length === 0) throw HubError.field("open.types", "is required");
	const deadlineMs = open.deadline === undefined ? defaultDeadlineMs : durationMs(open.deadline);
	if (!(deadlineMs >= 1 && deadlineMs <= maxDeadlineMs)) {
		throw HubError.field("open.deadline", `must be 1 to ${maxDeadlineMs} ms`);
	}
	if (failureMode !== FailureMode.OPEN && failureMode !== FailureMode.CLOSED) {
		throw HubError.field("open.failure_mode", "must be OPEN or CLOSED");
	}
	return {
		name,
		order,
		deadlineMs,
		filter: new InspectorFilter(open, "open."),
		failsOpen: failureMode === FailureMode.OPEN,
		maxInFlight: openingCredit(open.maxInFlight, "open."),
	};
}

/** Undefined for what is no verdict: nothing set, or a refusal whose reason is too long. */
export function readVerdict({ outcome }: WireVerdict): Verdict | undefined {
	switch (outcome.case) {
		case "pass":
			return outcome.value ? { kind: "pass" } : undefined;
		case "change": {
			const { payload, attributes, removeAttributes } = outcome.value;
			const changed = new Map<string, string | undefined>(removeAttributes.map((key) => [key, undefined]));
			for (const key in attributes) changed.set(key, attributes[key]);
			return { kind: "change", payload: payload && toBinary(PayloadSchema, payload), attributes: changed };
		}
		case "answer":
			return { kind: "answer", reply: toBinary(ReplyContentSchema, outcome.value) };
		case "refuse": {
			const { reason } = outcome.value;
			return Buffer.byteLength(reason) > MAX_REASON_BYTES ? undefined : { kind: "refuse", reason };
		}
		case undefined:
			return undefined;
	}
}
