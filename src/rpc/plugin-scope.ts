import { HubError } from "../hub-error.ts";
import type { AuditRecorder } from "../security/audit-entry.ts";
import { principalOf } from "../security/caller.ts";
import { parsePluginId } from "../subjects/plugin-id.ts";
import type { Call } from "./call.ts";

/** What belongs to plugins, each to one. */
export interface OwnedThings {
	readonly audit: AuditRecorder;
	/** Their name, in the plural. */
	readonly things: string;
}

/**
 * Whose things a call is about: a plugin's own, or those of the plugin that an operator names in `plugin_id`; empty: all of
 * them, which operators alone may ask for. Refuses who asks for those of another plugin, and records it.
 */
export function scopeOf({ audit, things }: OwnedThings, call: Call, asked: string): string {
	const { caller, requestId } = call;
	if (asked !== "") parsePluginId(asked, "plugin_id");
	if (caller.kind === "operator") return asked;
	if (caller.kind !== "plugin") throw new HubError("CALLER_NOT_ALLOWED", `${things} are for plugins and operators`);
	if (asked === "" || asked === caller.id) return caller.id;
	const error = HubError.field("plugin_id", `a plugin has to do with its own ${things} only`, "CALLER_NOT_ALLOWED");
	audit.record({
		event: "data_access_denied",
		actor: principalOf(caller),
		target: things,
		reason: error.reason.toLowerCase(),
		details: { asked, message: error.message },
		requestId,
	});
	throw error;
}

/** The same for what is one plugin's: an operator has to name it. */
export function ownerOf(owned: OwnedThings, call: Call, asked: string): string {
	const pluginId = scopeOf(owned, call, asked);
	if (pluginId === "") throw HubError.field("plugin_id", "is required of an operator");
	return pluginId;
}
