import { prefixes } from "../state/key-layout.ts";
import { KV_LIMITS, type KvChange, type KvEntry, type KvStore } from "../state/kv-store.ts";
import { prefixEnd } from "../state/state-backend.ts";
import { KnownPlugin, Registration, StoredInstance } from "./known-plugin.ts";
import { PRESENCE_PREFIX, parsePluginKey } from "./plugin-keys.ts";

/**
 * One plugin as its keys say it. Presence counts only beside a registration: keys of one commit come one by one, so that
 * in the middle of a commit parts may be here without the whole.
 */
export interface PluginParts {
	readonly registration: Registration | undefined;
	readonly instances: readonly StoredInstance[];
	readonly wasThere: boolean;
}

const NO_PARTS: PluginParts = Object.freeze({ registration: undefined, instances: [], wasThere: false });

/** The parts after one of their keys took `value` (undefined: was deleted). */
export function withKey(parts: PluginParts, key: string, value: Uint8Array | undefined, revision: number): PluginParts {
	const of = parsePluginKey(key);
	switch (of?.kind) {
		case "registration":
			return { ...parts, registration: value && new Registration(of.pluginId, revision, value) };
		case "presence":
			return { ...parts, wasThere: value !== undefined };
		case "instance": {
			const others = parts.instances.filter((instance) => instance.id !== of.instanceId);
			if (value === undefined) return { ...parts, instances: others };
			const instances = [...others, new StoredInstance(of.instanceId, value)];
			return { ...parts, instances: instances.sort((a, b) => (a.id < b.id ? -1 : 1)) };
		}
		default:
			return parts;
	}
}

/** The parts that make up a known plugin. */
export function partsOf(known: KnownPlugin | undefined): PluginParts {
	return known ?? NO_PARTS;
}

/** The known plugin that the parts make up. */
export function assemble(parts: PluginParts): KnownPlugin | undefined {
	return parts.registration && new KnownPlugin(parts.registration, parts.instances, parts.wasThere);
}

/** The plugin before `changes` (of it alone, in order), given how it is after them. */
export function before(after: KnownPlugin | undefined, changes: readonly KvChange[]): KnownPlugin | undefined {
	let parts = partsOf(after);
	const undone = new Set<string>();
	for (const { key, oldValue } of changes) {
		if (undone.has(key)) continue;
		undone.add(key);
		parts = withKey(parts, key, oldValue, 0);
	}
	return assemble(parts);
}

/** All plugins, and the revision they were read at. Reads without a pause, so that nothing moves in between. */
export function loadPlugins(kv: KvStore): { plugins: Map<string, KnownPlugin>; revision: number } {
	const { revision } = kv;
	const instances = new Map<string, StoredInstance[]>();
	for (const { key, value } of entriesUnder(kv, prefixes.instances)) {
		const slash = key.indexOf("/", prefixes.instances.length);
		const pluginId = key.slice(prefixes.instances.length, slash);
		const instance = new StoredInstance(key.slice(slash + 1), value);
		const mine = instances.get(pluginId);
		if (mine) mine.push(instance);
		else instances.set(pluginId, [instance]);
	}
	const present = new Set<string>();
	for (const { key } of entriesUnder(kv, PRESENCE_PREFIX)) present.add(key.slice(PRESENCE_PREFIX.length));
	const plugins = new Map<string, KnownPlugin>();
	for (const { key, value, revision } of entriesUnder(kv, prefixes.registrations)) {
		const id = key.slice(prefixes.registrations.length);
		plugins.set(id, new KnownPlugin(new Registration(id, revision, value), instances.get(id) ?? [], present.has(id)));
	}
	return { plugins, revision };
}

function* entriesUnder(kv: KvStore, prefix: string): Generator<KvEntry> {
	const end = prefixEnd(prefix);
	let start = prefix;
	for (let more = true; more; ) {
		const page = kv.range({ start, end, limit: KV_LIMITS.pageEntries });
		yield* page.entries;
		more = page.more;
		const last = page.entries.at(-1);
		if (last) start = `${last.key}\0`;
	}
}
