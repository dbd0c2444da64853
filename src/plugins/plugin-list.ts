import type { PluginState } from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import { admits, type Viewer } from "./access-control.ts";
import type { KnownPlugin } from "./known-plugin.ts";
import type { PluginIndex } from "./plugin-index.ts";

export interface PluginQuery {
	readonly viewer: Viewer;
	/** Only plugins in one of these states; empty: any. */
	readonly states: readonly PluginState[];
	/** Empty: any. */
	readonly category: string;
	/** A subject in canonical form; empty: any. */
	readonly capability: string;
	/** The last id of the page before; empty: the first page. */
	readonly after: string;
	readonly limit: number;
}

export interface PluginPage {
	readonly plugins: readonly KnownPlugin[];
	/** What the next page comes after; undefined: this was the last. */
	readonly next: string | undefined;
}

const PAGE_BYTES = 2 * 1024 * 1024;
const SCANNED_PER_PAGE = 1000;

/**
 * A page in order of id. Ends early at about 2 MiB and after looking at 1,000 plugins, so that no list holds up the hub:
 * a page may be short, or empty, and still not be the last.
 */
export function listPlugins(index: PluginIndex, query: PluginQuery): PluginPage {
	const plugins: KnownPlugin[] = [];
	const ids = index.idsAfter(query.after, SCANNED_PER_PAGE + 1);
	let bytes = 0;
	let last = "";
	for (const id of ids.slice(0, SCANNED_PER_PAGE)) {
		if (plugins.length >= query.limit || bytes >= PAGE_BYTES) return { plugins, next: last };
		last = id;
		const plugin = index.get(id);
		if (!plugin || !isWanted(plugin, query)) continue;
		plugins.push(plugin);
		bytes += plugin.registration.byteLength;
	}
	return { plugins, next: ids.length > SCANNED_PER_PAGE ? last : undefined };
}

function isWanted(plugin: KnownPlugin, { viewer, states, category, capability }: PluginQuery): boolean {
	if (!admits(plugin, viewer)) return false;
	if (states.length > 0 && !states.includes(plugin.state)) return false;
	if (category !== "" && !plugin.registration.plugin.categories.includes(category)) return false;
	return capability === "" || plugin.capabilities.provides.some((name) => name.replaceAll(":", ".") === capability);
}
