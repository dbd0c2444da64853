import type { ChangeGroup } from "./change-group.ts";
import { ChangeWindow } from "./change-window.ts";
import { CommitOutcomes } from "./commit-outcomes.ts";
import { checkCommit, checkRange } from "./kv-rules.ts";
import {
	type ChangeReader,
	KV_LIMITS,
	type KvBytes,
	type KvCapabilities,
	type KvChange,
	type KvCommit,
	type KvCommitResult,
	type KvEntry,
	type KvPage,
	type KvRange,
	type KvStore,
	StorageError,
} from "./kv-store.ts";
import { OrderedMap } from "./ordered-map.ts";

/** The two readings of the hub's clock that a store needs, in milliseconds. */
export interface KvClock {
	now(): number;
	monotonic(): number;
}

/** A KvStore that ends with the process. A commit is applied before `commit` returns its promise. */
export class VolatileKvStore implements KvStore {
	readonly capabilities: KvCapabilities = Object.freeze({
		durable: false,
		shared: false,
		commitWrites: KV_LIMITS.commitWrites,
	});
	readonly #clock: KvClock;
	readonly #entries = new OrderedMap<KvEntry>();
	readonly #outcomes = new CommitOutcomes();
	readonly #window: ChangeWindow;
	#revision = 0;
	#closed = false;

	constructor(clock: KvClock) {
		this.#clock = clock;
		this.#window = new ChangeWindow({
			now: () => clock.monotonic(),
			revision: () => this.#revision,
			start: 0,
			commitWrites: this.capabilities.commitWrites,
		});
	}

	get revision(): number {
		return this.#revision;
	}

	get(key: string): KvEntry | undefined {
		return this.#entries.get(key);
	}

	range(query: KvRange): KvPage {
		checkRange(query);
		const { start, end } = query;
		const found = query.reverse ? this.#entries.reverseRange(start, end) : this.#entries.range(start, end);
		const entries: KvEntry[] = [];
		let bytes = 0;
		for (const entry of found) {
			const size = entry.key.length + entry.value.byteLength;
			if (entries.length === query.limit || (entries.length > 0 && bytes + size > KV_LIMITS.pageBytes)) {
				return { entries, more: true, revision: this.#revision };
			}
			entries.push(entry);
			bytes += size;
		}
		return { entries, more: false, revision: this.#revision };
	}

	async commit(commit: KvCommit): Promise<KvCommitResult> {
		checkCommit(commit, this.capabilities);
		if (this.#closed) throw new StorageError("unavailable", "not-written", "the store is closed");
		const known = this.#outcomes.get(commit.id, this.#clock.now());
		if (known) return { ok: true, firstRevision: known.firstRevision, revision: known.revision };
		const conflicts = [];
		for (const { key, revision } of commit.checks ?? []) {
			const actual = this.#entries.get(key)?.revision ?? 0;
			if (actual !== revision) conflicts.push({ key, actual });
		}
		for (const { key, expected } of commit.writes) {
			if (expected === undefined) continue;
			const actual = this.#entries.get(key)?.revision ?? 0;
			if (actual !== expected) conflicts.push({ key, actual });
		}
		if (conflicts.length > 0) return { ok: false, conflicts };
		const firstRevision = this.#revision + 1;
		this.#write(commit);
		const revision = this.#revision;
		if (commit.writes.length > 0) {
			this.#outcomes.add({ id: commit.id, firstRevision, revision, time: this.#clock.now() });
		}
		return { ok: true, firstRevision: Math.min(firstRevision, revision), revision };
	}

	watch(prefix: string, options: { after?: number; signal: AbortSignal }): AsyncIterable<readonly KvChange[]> {
		return this.#window.watch(prefix, options);
	}

	read(prefix: string, after?: number): ChangeReader {
		return this.#window.read(prefix, after);
	}

	async barrier(): Promise<void> {}

	/** Ends the watches; what follows is refused. */
	close(): void {
		this.#closed = true;
		this.#window.close();
	}

	#write({ writes }: KvCommit): void {
		if (writes.length === 0) return;
		const firstRevision = this.#revision + 1;
		const touched: ChangeGroup[] = [];
		for (const [index, write] of writes.entries()) {
			const { key } = write;
			const revision = ++this.#revision;
			const old = this.#entries.get(key);
			// A copy, because the caller may use its buffer again and an entry stays valid for ever.
			const value = write.value === undefined ? undefined : copyOf(write.value);
			const createRevision = old?.createRevision ?? revision;
			if (value) this.#entries.set({ key, value, revision, createRevision });
			else this.#entries.delete(key);
			const group = write.silent === true ? undefined : this.#window.groupOf(key);
			if (group === undefined) continue;
			const { packer } = group;
			if (!touched.includes(group)) {
				touched.push(group);
				packer.begin(writes.length);
			}
			if (old) packer.oldEntry(index, old);
			if (value) packer.set(index, key, revision, createRevision, value);
			else packer.remove(index, key, write.value === undefined ? write.note : undefined);
		}
		for (const group of touched) group.push(group.packer.finish(firstRevision, this.#revision));
		this.#window.reach(this.#revision);
	}
}

function copyOf(value: Uint8Array | KvBytes): Buffer {
	if (value instanceof Uint8Array) return Buffer.from(value);
	const copy = Buffer.allocUnsafe(value.byteLength);
	value.copyTo(copy, 0);
	return copy;
}
