import { fromBinary } from "@bufbuild/protobuf";
import { EventSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import type { Caller } from "../security/caller.ts";
import type { StoredRecord } from "../state/log-store.ts";
import { isLifecycleType, parseSubject } from "../subjects/subject.ts";

/** Who may see one lifecycle event: whom the access control of the plugin that it tells of admits. */
export interface Audience {
	admits(caller: Caller): boolean;
}

/** A cheap test that no lifecycle event fails. */
export function mayBeLifecycle(topic: string): boolean {
	return topic.startsWith("plugin.");
}

const NOBODY_ELSE: Audience = { admits: (caller) => caller.kind === "operator" };

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
		admits(caller) {
			if (caller.kind !== "plugin") return caller.kind === "operator";
			if (caller.id === pluginId) return true;
			if (deny.has("*") || deny.has(caller.id)) return false;
			return allow.size === 0 || allow.has("*") || allow.has(caller.id);
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
