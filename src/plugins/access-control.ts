import type { KnownPlugin } from "./known-plugin.ts";

/** Who looks: a plugin's id, or undefined for an operator, who sees everything. */
export type Viewer = string | undefined;

const EVERYONE = "*";

/**
 * Whether `viewer` may know of the plugin and use it: an empty allow list is everyone, `*` is everyone, deny wins; the
 * plugin itself and operators always may.
 */
export function admits(plugin: KnownPlugin, viewer: Viewer): boolean {
	if (viewer === undefined || viewer === plugin.id) return true;
	const control = plugin.capabilities.accessControl;
	if (control === undefined) return true;
	if (control.deny.includes(viewer) || control.deny.includes(EVERYONE)) return false;
	return control.allow.length === 0 || control.allow.includes(viewer) || control.allow.includes(EVERYONE);
}
