import { create, equals } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
	type Capabilities,
	CapabilitiesSchema,
	type Plugin,
	PluginSchema,
	PluginState,
	PluginType,
} from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import type { Manifest } from "./manifest.ts";

const TYPES: ReadonlyMap<string, PluginType> = new Map([
	["dashboard-widget", PluginType.DASHBOARD_WIDGET],
	["cli-tool", PluginType.CLI_TOOL],
	["service", PluginType.SERVICE],
	["page", PluginType.PAGE],
	["hybrid", PluginType.HYBRID],
]);

/**
 * A registration as it is stored, from what the plugin says of itself. `current` is the registration that it replaces:
 * its times and its state stay. The id is the caller's, whatever the manifest would make of its name.
 */
export function describePlugin(
	pluginId: string,
	manifest: Manifest,
	capabilities: Capabilities,
	current: Plugin | undefined,
	now: number,
): Plugin {
	return create(PluginSchema, {
		id: pluginId,
		name: manifest.name,
		version: manifest.version ?? "",
		description: manifest.description,
		type: TYPES.get(manifest.type ?? "") ?? PluginType.UNSPECIFIED,
		categories: [...new Set([...capabilities.categories, ...manifest.categories])],
		tags: [...manifest.tags],
		manifestJson: manifest.json,
		declaredPermissions: manifest.declaredPermissions.map((declared) => ({
			...declared,
			description: declared.description ?? "",
			required: declared.required ?? true,
		})),
		capabilities,
		state: current?.state ?? PluginState.REGISTERED,
		createTime: current?.createTime ?? timestampFromMs(now),
		updateTime: laterOf(current?.updateTime, timestampFromMs(now)),
		disabledReason: current?.disabledReason ?? "",
	});
}

/** Whether two registrations say the same: the manifest to the letter, and the capabilities. */
export function saysTheSame(a: Plugin, b: Plugin): boolean {
	const [left, right] = [a.capabilities, b.capabilities].map((given) => given ?? create(CapabilitiesSchema));
	return a.manifestJson === b.manifestJson && equals(CapabilitiesSchema, left!, right!);
}

/** The wall clock may step back; the time of the last change does not. */
export function laterOf(before: Timestamp | undefined, now: Timestamp): Timestamp {
	if (before === undefined || before.seconds < now.seconds) return now;
	return before.seconds > now.seconds || before.nanos > now.nanos ? before : now;
}
