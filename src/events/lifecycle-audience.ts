import { fromBinary } from "@bufbuild/protobuf";
import { EventSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import type { StoredRecord } from "../state/log-store.ts";
import { isLifecycleType, parseSubject } from "../subjects/subject.ts";
import type { Subscriber } from "./subscriber.ts";

/** Who may see one lifecycle event: whom the access control of the plugin that it tells of admits. */
export interface Audience {
	admits(subscriber: Subscriber): boolean;
}

/** A cheap test that no lifecycle event fails. */
export function mayBeLifecycle(topic: string): boolean {
	return topic.startsWith("plugin.");
}

const NOBODY_ELSE: Audience = { admits: ({ pluginId }) => pluginId === undefined };

/**
 * The audience of a stored event; undefined where it is not a lifecycle event, which only the hub can publish. A
 * lifecycle event that does not say whom it tells of is for operators only.
 */
export function audienceOf(record: StoredRecord): Audience | undefined {
	if (!isLifecycleType(parseSubject(record.topic, "type"))) return undefined;
	let told: unknown;
	try {
		const { payload } = fromBinary(EventSchema, record.bytes);
		told = payload?.body.case === "json" ? JSON.parse(payload.body.value) : undefined;
	} catch {
		return NOBODY_ELSE;
	}
	const pluginId = member(told, "pluginId");
	if (typeof pluginId !== "string") return NOBODY_ELSE;
	const control = member(member(told, "capabilities"), "accessControl");
	const allow = new Set(ids(member(control, "allow")));
	const deny = new Set(ids(member(control, "deny")));
	return {
		admits({ pluginId: reader }) {
			if (reader === undefined || reader === pluginId) return true;
			if (deny.has("*") || deny.has(reader)) return false;
			return allow.size === 0 || allow.has("*") || allow.has(reader);
		},
	};
}

function member(value: unknown, name: string): unknown {
	return typeof value === "object" && value !== null && Object.hasOwn(value, name)
		? (value as Record<string, unknown>)[name]
		: undefined;
}

function ids(value: unknown): readonly unknown[] {
	return Array.isArray(value) ? value : [];
}
