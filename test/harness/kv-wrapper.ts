import type { KvStore } from "../../src/state/kv-store.ts";

/** A store that is `kv` but for what `change` puts in its place. */
export function wrapKv(kv: KvStore, change: Partial<Pick<KvStore, "commit" | "watch" | "read" | "range">>): KvStore {
	return {
		capabilities: kv.capabilities,
		get revision() {
			return kv.revision;
		},
		get: (key) => kv.get(key),
		range: (query) => kv.range(query),
		commit: (commit) => kv.commit(commit),
		watch: (prefix, options) => kv.watch(prefix, options),
		read: (prefix, after) => kv.read(prefix, after),
		barrier: () => kv.barrier(),
		...change,
	};
}

/**
 * A store that decides a commit some turns after it was asked to, as one that writes to a disk does. The memory store
 * decides at once, so that on it alone no two commits ever meet.
 */
export function unhurriedKv(kv: KvStore): KvStore {
	return wrapKv(kv, {
		async commit(commit) {
			for (let turn = 0; turn < 5; turn++) await Promise.resolve();
			return await kv.commit(commit);
		},
	});
}
