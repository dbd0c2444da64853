import type { BroadcastAudience, BroadcastFilter } from "../messaging/broadcast-audience.ts";
import { admits } from "../plugins/access-control.ts";
import type { KnownPlugin } from "../plugins/known-plugin.ts";
import type { PluginIndex } from "../plugins/plugin-index.ts";
import type { PolicySource } from "../security/policy-view.ts";
import { parseSubject } from "../subjects/subject.ts";
import { parseVersion, satisfies, type VersionRange } from "../versions/semver-range.ts";

/** Plugins as broadcasts select them: by what they registered, whether they are there, and how far they are trusted. */
export class PluginAudience implements BroadcastAudience {
	readonly #index: PluginIndex;
	readonly #policy: PolicySource;

	constructor(index: PluginIndex, policy: PolicySource) {
		this.#index = index;
		this.#policy = policy;
	}

	*select(filter: BroadcastFilter, sender: string): Generator<string, void, undefined> {
		for (const plugin of this.#candidates(filter)) {
			if (plugin.id !== sender && this.#isSelected(plugin, filter) && admits(plugin, sender)) yield plugin.id;
		}
	}

	*#candidates({ pluginIds }: BroadcastFilter): Generator<KnownPlugin, void, undefined> {
		if (pluginIds === undefined) {
			yield* this.#index.all();
			return;
		}
		for (const id of pluginIds) {
			const plugin = this.#index.get(id);
			if (plugin !== undefined) yield plugin;
		}
	}

	#isSelected(plugin: KnownPlugin, filter: BroadcastFilter): boolean {
		const { categories, capabilities, versionRange, minTrustLevel, states } = filter;
		if (states !== undefined && !states.has(plugin.state)) return false;
		if (minTrustLevel !== undefined && this.#policy.plugin(plugin.id).trust < minTrustLevel) return false;
		if (categories.length > 0) {
			const own = plugin.registration.plugin.categories;
			if (!categories.some((category) => own.includes(category))) return false;
		}
		if (capabilities.length > 0) {
			const provided = new Set(plugin.capabilities.provides.map((name) => parseSubject(name, "provides").canonical));
			if (!capabilities.every((name) => provided.has(name))) return false;
		}
		return versionRange === undefined || isInRange(plugin, versionRange);
	}
}

function isInRange(plugin: KnownPlugin, range: VersionRange): boolean {
	const version = plugin.capabilities.version || plugin.registration.plugin.version;
	return version !== "" && satisfies(parseVersion(version, "version"), range);
}
