import { keys, prefixes } from "../state/key-layout.ts";
import type { KvStore } from "../state/kv-store.ts";
import { prefixEnd } from "../state/state-backend.ts";
import { Registration, StoredInstance } from "./known-plugin.ts";

/** Everything that this subsystem stores. */
export const PLUGIN_PREFIX = "plugin/";

/** The id of the numbering of changes: a random word, made with the store. */
export const EPOCH_KEY = "plugin/epoch";

export const PRESENCE_PREFIX = "plugin/presence/";

/** PresenceRecord. */
export function presenceKey(pluginId: string): string {
	return `${PRESENCE_PREFIX}${pluginId}`;
}

/** The most instances of one plugin, so that one page holds them all. */
export const MAX_INSTANCES = 256;

/** One plugin's keys as they are stored now, with the revisions that a commit must check. */
export interface StoredPlugin {
	readonly registration: Registration | undefined;
	readonly instances: readonly StoredInstance[];
	/** 0: there is none. */
	readonly presenceRevision: number;
}

/** Reads the truth; `known` saves decoding a registration that has not changed. */
export function readPlugin(kv: KvStore, pluginId: string, known: Registration | undefined): StoredPlugin {
	const entry = kv.get(keys.registration(pluginId));
	const start = keys.instance(pluginId, "");
	const page = kv.range({ start, end: prefixEnd(start), limit: MAX_INSTANCES });
	return {
		registration:
			entry && (known?.revision === entry.revision ? known : new Registration(pluginId, entry.revision, entry.value)),
		instances: page.entries.map((instance) => new StoredInstance(instance.key.slice(start.length), instance.value)),
		presenceRevision: kv.get(presenceKey(pluginId))?.revision ?? 0,
	};
}

/** What a key under `plugin/` is of. */
export type PluginKey =
	| { readonly kind: "registration"; readonly pluginId: string }
	| { readonly kind: "presence"; readonly pluginId: string }
	| { readonly kind: "instance"; readonly pluginId: string; readonly instanceId: string };

/** Undefined for a key that belongs to no plugin. */
export function parsePluginKey(key: string): PluginKey | undefined {
	if (key.startsWith(prefixes.registrations)) {
		return { kind: "registration", pluginId: key.slice(prefixes.registrations.length) };
	}
	if (key.startsWith(PRESENCE_PREFIX)) return { kind: "presence", pluginId: key.slice(PRESENCE_PREFIX.length) };
	if (!key.startsWith(prefixes.instances)) return undefined;
	const slash = key.indexOf("/", prefixes.instances.length);
	return {
		kind: "instance",
		pluginId: key.slice(prefixes.instances.length, slash),
		instanceId: key.slice(slash + 1),
	};
}
