import { HubError } from "../hub-error.ts";

declare const brand: unique symbol;

/** An id that `parsePluginId` let through: 1 to 128 of `[a-z0-9._-]`, starting with a letter or digit, not reserved. */
export type PluginId = string & { readonly [brand]: "PluginId" };

export const MAX_PLUGIN_ID_LENGTH = 128;

/** Names that stand for the hub itself wherever a plugin id is shown, so no plugin may carry them. */
export const RESERVED_PLUGIN_IDS: ReadonlySet<string> = new Set(["hub", "operator"]);

const PLUGIN_ID = /^[a-z0-9][a-z0-9._-]{0,127}$/;

/** Refuses with INVALID_PLUGIN_ID, naming `field` and what is wrong. */
export function parsePluginId(text: string, field: string): PluginId {
	if (PLUGIN_ID.test(text) && !RESERVED_PLUGIN_IDS.has(text)) return text as PluginId;
	throw HubError.field(field, pluginIdProblem(text), "INVALID_PLUGIN_ID");
}

function pluginIdProblem(text: string): string {
	if (text === "") return "is empty; a plugin id has 1 to 128 characters";
	if (text.length > MAX_PLUGIN_ID_LENGTH) {
		return `has ${text.length} characters; at most ${MAX_PLUGIN_ID_LENGTH} are allowed`;
	}
	if (RESERVED_PLUGIN_IDS.has(text)) return `"${text}" is reserved`;
	const at = text.search(/[^a-z0-9._-]/);
	if (at >= 0) {
		const character = String.fromCodePoint(text.codePointAt(at)!);
		return `has ${JSON.stringify(character)} at position ${at + 1}; allowed are a-z, 0-9, ".", "_" and "-"`;
	}
	return `starts with "${text[0]}"; a plugin id starts with a letter or digit`;
}
