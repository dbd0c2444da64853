import { create, toBinary, toJson } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { EventSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { CapabilitiesSchema, type Plugin, PluginState } from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import { outboxEventWrite } from "../outbox/outbox.ts";
import type { KvWrite } from "../state/kv-store.ts";

/** What the hub tells of a plugin, as `plugin:<word>`. */
export type LifecycleWord = "registered" | "updated" | "online" | "offline" | "enabled" | "disabled" | "unregistered";

export interface LifecycleEvent {
	readonly id: string;
	readonly word: LifecycleWord;
	/** As it is after the change; as it was, where it is gone. */
	readonly plugin: Plugin;
	/** Undefined where the plugin is gone. */
	readonly state: PluginState | undefined;
	/** Milliseconds since the Unix epoch. */
	readonly time: number;
	readonly instanceId?: string;
	readonly reason?: string;
}

/** The source of events that the hub itself emits. */
const HUB_SOURCE = "hub";

/** The write that makes the others hear of a change; it belongs into the commit of the change. */
export function lifecycleWrite({ id, word, plugin, state, time, instanceId, reason }: LifecycleEvent): KvWrite {
	const told = {
		pluginId: plugin.id,
		name: plugin.name,
		version: plugin.version,
		state: state === undefined ? undefined : PluginState[state],
		capabilities: toJson(CapabilitiesSchema, plugin.capabilities ?? create(CapabilitiesSchema)),
		instanceId,
		reason: reason === "" ? undefined : reason,
	};
	const event = create(EventSchema, {
		id,
		type: `plugin:${word}`,
		source: HUB_SOURCE,
		subject: plugin.id,
		time: timestampFromMs(time),
		payload: { body: { case: "json", value: JSON.stringify(told) } },
	});
	return outboxEventWrite({ id, type: `plugin.${word}`, event: toBinary(EventSchema, event) });
}
