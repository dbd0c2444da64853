import type { TrustLevel } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import type { PluginIndex } from "../plugins/plugin-index.ts";
import type { PluginStanding } from "../rpc/store-admission.ts";
import type { PolicySource } from "../security/policy-view.ts";

const NONE: readonly string[] = Object.freeze([]);

/** Plugins as the lists of stores see them: by the categories that they registered, and how far they are trusted. */
export class PluginStandings implements PluginStanding {
	readonly #index: PluginIndex;
	readonly #policy: PolicySource;

	constructor(index: PluginIndex, policy: PolicySource) {
		this.#index = index;
		this.#policy = policy;
	}

	categoriesOf(pluginId: string): readonly string[] {
		return this.#index.get(pluginId)?.registration.plugin.categories ?? NONE;
	}

	trustOf(pluginId: string): TrustLevel {
		return this.#policy.plugin(pluginId).trust;
	}
}
