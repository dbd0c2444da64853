import { create } from "@bufbuild/protobuf";
import {
	type Capabilities,
	CapabilitiesSchema,
	type PluginServiceUpdateRequest,
} from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import { HubError } from "../hub-error.ts";
import { requireSize } from "./capabilities-request.ts";

/** Which parts of a registration an update touches. */
export interface UpdateParts {
	readonly manifest: boolean;
	/** Undefined: the capabilities stay. */
	readonly capabilities: ((current: Capabilities | undefined) => Capabilities) | undefined;
}

const PREFIX = "capabilities.";
const MAX_PATHS = 32;
const LOCAL_NAMES = new Map(CapabilitiesSchema.fields.map((field) => [field.name, field.localName]));

/** Reads an update mask; without one, what is set is changed. Refuses unknown paths with INVALID_FIELD. */
export function parseUpdateMask({ manifestJson, capabilities, updateMask }: PluginServiceUpdateRequest): UpdateParts {
	const given = capabilities ?? create(CapabilitiesSchema);
	const paths = updateMask?.paths ?? [];
	if (paths.length === 0) {
		if (manifestJson === "" && !capabilities) throw HubError.field("update_mask", "nothing to change is set");
		return { manifest: manifestJson !== "", capabilities: capabilities && (() => given) };
	}
	if (paths.length > MAX_PATHS) {
		throw HubError.field("update_mask", `has ${paths.length} paths; at most ${MAX_PATHS} are allowed`);
	}
	const fields = paths.filter((path) => path.startsWith(PREFIX)).map((path) => path.slice(PREFIX.length));
	for (const path of paths) {
		if (path === "manifest_json" || path === "capabilities") continue;
		if (path.startsWith(PREFIX) && LOCAL_NAMES.has(path.slice(PREFIX.length))) continue;
		throw HubError.field("update_mask", `has the unknown path "${path.slice(0, 128)}"`);
	}
	const whole = paths.includes("capabilities");
	const some = whole || fields.length > 0;
	return {
		manifest: paths.includes("manifest_json"),
		capabilities: some ? (current) => (whole ? given : withFields(current, given, fields)) : undefined,
	};
}

/** The current capabilities with some fields taken, set or not, from those given. */
function withFields(current: Capabilities | undefined, given: Capabilities, fields: readonly string[]): Capabilities {
	const merged = { ...(current ?? create(CapabilitiesSchema)) };
	for (const name of fields) {
		const local = LOCAL_NAMES.get(name) as keyof Capabilities;
		Object.assign(merged, { [local]: given[local] });
	}
	requireSize(merged, "capabilities");
	return merged;
}
