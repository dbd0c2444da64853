import { ChangeWindow } from "../../src/state/change-window.ts";
import type { ChangeReader, KvChange, KvRange, KvStore, KvWrite } from "../../src/state/kv-store.ts";
import { VolatileKvStore } from "../../src/state/volatile-kv-store.ts";
import { WATCHED_GROUPS } from "../../src/state/watched-groups.ts";
import { wrapKv } from "./kv-wrapper.ts";

/**
 * A store whose reads show a commit before its window of changes has it, until `settle`, as one that writes to a disk does;
 * with pages of a few entries and a window of a few changes.
 */
export class LaggingKv {
	readonly kv: KvStore;
	/** Everything that was ever changed. */
	readonly history: KvChange[] = [];
	readonly #inner: VolatileKvStore;
	readonly #window: ChangeWindow;
	#unsettled: { readonly revision: number; readonly changes: readonly KvChange[] }[] = [];
	#commits = 0;

	constructor(options: { readonly pageEntries: number; readonly windowChanges: number }) {
		const clock = { now: () => 0, monotonic: () => 0 };
		this.#inner = new VolatileKvStore(clock);
		const groups = WATCHED_GROUPS.map((group) => ({ ...group, maxChanges: options.windowChanges }));
		const revision = () => this.#inner.revision;
		const { commitWrites } = this.#inner.capabilities;
		this.#window = new ChangeWindow({ groups, now: () => 0, revision, start: 0, commitWrites });
		this.kv = wrapKv(this.#inner, {
			range: (query: KvRange) => this.#inner.range({ ...query, limit: Math.min(query.limit, options.pageEntries) }),
			read: (prefix: string, after?: number): ChangeReader => this.#window.read(prefix, after),
		});
	}

	/** Written at once; told by `settle`. */
	async commit(writes: readonly KvWrite[]): Promise<void> {
		const before = this.#inner.revision;
		await this.#inner.commit({ id: `commit-${++this.#commits}`, writes });
		const changes: KvChange[] = [];
		using reader = this.#inner.read("store/entry/s/", before);
		for (let part = reader.next(); part !== undefined; part = reader.next()) {
			changes.push(...part);
			reader.advance(part.at(-1)!.revision);
		}
		this.history.push(...changes);
		this.#unsettled.push({ revision: this.#inner.revision, changes });
	}

	/** The next commits reach the window. */
	settle(commits: number = this.#unsettled.length): void {
		for (const { revision, changes } of this.#unsettled.splice(0, commits)) {
			this.#push(revision, changes);
			this.#window.reach(revision);
		}
	}

	#push(revision: number, changes: readonly KvChange[]): void {
		const group = this.#window.groupOf("store/entry/s/")!;
		const first = changes[0]?.revision;
		if (first === undefined) return;
		group.packer.begin(changes.length);
		for (const { key, value, oldValue, note, createRevision, oldRevision, ...change } of changes) {
			const write = change.revision - first;
			if (oldValue) group.packer.oldEntry(write, { key, value: oldValue, revision: oldRevision, createRevision });
			if (value) group.packer.set(write, key, change.revision, createRevision, value);
			else group.packer.remove(write, key, note);
		}
		group.push(group.packer.finish(first, revision));
	}
}
