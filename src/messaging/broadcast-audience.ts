import type { VersionRange } from "../versions/semver-range.ts";

/** Which plugins a broadcast is for. All that is set must hold. */
export interface BroadcastFilter {
	/** Undefined: any. */
	readonly pluginIds: ReadonlySet<string> | undefined;
	/** One of these. Empty: any. */
	readonly categories: readonly string[];
	/** All of these. */
	readonly capabilities: readonly string[];
	/** Undefined: any, or none. */
	readonly versionRange: VersionRange | undefined;
	/** A number of `TrustLevel`. Undefined: any. */
	readonly minTrustLevel: number | undefined;
	/** Numbers of `PluginState`. Undefined: any. */
	readonly states: ReadonlySet<number> | undefined;
}

/** Finds the plugins that a filter selects. */
export interface BroadcastAudience {
	/**
	 * Ids of registered plugins that may be known to the sender, found while they are read: plugins that come or go meanwhile
	 * may be among them or not.
	 */
	select(filter: BroadcastFilter, sender: string): Iterable<string>;
}
