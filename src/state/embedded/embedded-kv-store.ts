import type { Clock } from "../../clock/clock.ts";
import { ChangeWindow } from "../change-window.ts";
import type { CommitOutcome } from "../commit-outcomes.ts";
import { compareKeys } from "../key-order.ts";
import { decodeKvRecord, kvValue } from "../kv-record.ts";
import { checkCommit, checkRange, isTooLong } from "../kv-rules.ts";
import {
	type ChangeReader,
	KV_LIMITS,
	type KvCapabilities,
	type KvChange,
	type KvCommit,
	type KvCommitResult,
	type KvEntry,
	type KvPage,
	type KvRange,
	type KvStore,
	StorageError,
} from "../kv-store.ts";
import { CommitWriter, type GroupChanges } from "./commit-writer.ts";
import type { Environment } from "./environment.ts";
import { GROUP_BYTES, type GroupParticipant, type GroupWriter } from "./group-writer.ts";
import { StoredOutcomes } from "./stored-outcomes.ts";
import { storedRevision, storeRevision } from "./stored-revision.ts";

/** Commits that may wait for the disk; more are refused. */
const MAX_WAITING = 100_000;
/** A few milliseconds of the process's time. */
const COMMIT_WRITES = 4000;
const MAX_WAITING_BYTES = 256 * 1024 * 1024;

interface Waiting {
	readonly commit: KvCommit;
	readonly bytes: number;
	readonly resolve: (result: KvCommitResult) => void;
	readonly reject: (error: unknown) => void;
}

const NO_CHANGES: readonly GroupChanges[] = Object.freeze([]);

/** A commit that the group in hand has seen to. */
interface Seen {
	readonly waiting: Waiting;
	readonly result: KvCommitResult;
	readonly changes: readonly GroupChanges[];
}

/**
 * A KvStore on LMDB. The database is the only copy: a read sees what is flushed, and a commit is checked inside the
 * transaction that writes it, where it sees the commits ahead of it in the same group.
 */
export class EmbeddedKvStore implements KvStore, GroupParticipant {
	readonly capabilities: KvCapabilities = Object.freeze({
		durable: true,
		shared: false,
		commitWrites: COMMIT_WRITES,
	});
	readonly #environment: Environment;
	readonly #writer: GroupWriter;
	readonly #clock: Clock;
	readonly #window: ChangeWindow;
	readonly #outcomes: StoredOutcomes;
	readonly #commits: CommitWriter;
	#waiting: Waiting[] = [];
	#waitingBytes = 0;
	#seen: Seen[] = [];
	#applied: CommitOutcome[] = [];
	/** The revision after the writes of the group in hand. */
	#written: number;
	/** The newest revision that a read has shown or a commit has told. */
	#shown: number;

	constructor(environment: Environment, writer: GroupWriter, clock: Clock) {
		this.#environment = environment;
		this.#writer = writer;
		this.#clock = clock;
		this.#written = this.#stored();
		this.#shown = this.#written;
		this.#window = new ChangeWindow({
			now: () => clock.monotonic(),
			revision: () => this.#shown,
			start: this.#shown,
			commitWrites: COMMIT_WRITES,
		});
		this.#commits = new CommitWriter(environment.kv, this.#window, COMMIT_WRITES);
		this.#outcomes = new StoredOutcomes(environment);
		this.#outcomes.load();
	}

	get revision(): number {
		return this.#shown;
	}

	get(key: string): KvEntry | undefined {
		if (key === "" || !key.isWellFormed()) return undefined;
		if (isTooLong(key)) return undefined;
		const stored = this.#environment.kv.getBinary(key);
		if (stored === undefined) return undefined;
		const { revision, createRevision } = decodeKvRecord(stored);
		if (revision > this.#shown) this.#show();
		return { key, value: kvValue(stored), revision, createRevision };
	}

	range(query: KvRange): KvPage {
		checkRange(query);
		const entries: KvEntry[] = [];
		let bytes = 0;
		let more = false;
		for (const { key: keyBytes, value: stored } of this.#cursor(query)) {
			const key = Buffer.from(keyBytes as Uint8Array).toString();
			if (query.reverse ? compareKeys(key, query.start) < 0 : false) break;
			const size = keyBytes.length + stored.byteLength;
			more = entries.length === query.limit || (entries.length > 0 && bytes + size > KV_LIMITS.pageBytes);
			if (more) break;
			bytes += size;
			entries.push({ key, value: kvValue(stored as Buffer), ...decodeKvRecord(stored as Buffer) });
		}
		return { entries, more, revision: this.#show() };
	}

	commit(commit: KvCommit): Promise<KvCommitResult> {
		return new Promise((resolve, reject) => {
			const bytes = checkCommit(commit, this.capabilities);
			if (this.#writer.stopped) throw refused(this.#writer.stopped);
			if (this.#waiting.length >= MAX_WAITING || this.#waitingBytes + bytes > MAX_WAITING_BYTES) {
				throw new StorageError("unavailable", "not-written", "too many commits wait for the disk");
			}
			this.#waiting.push({ commit, bytes, resolve, reject });
			this.#waitingBytes += bytes;
			this.#writer.request(this);
		});
	}

	watch(prefix: string, options: { after?: number; signal: AbortSignal }): AsyncIterable<readonly KvChange[]> {
		return this.#window.watch(prefix, options);
	}

	read(prefix: string, after?: number): ChangeReader {
		return this.#window.read(prefix, after);
	}

	async barrier(): Promise<void> {}

	/** Ends the watches. */
	close(): void {
		this.#window.close();
	}

	write(): void {
		const now = this.#clock.now();
		const inGroup = new Map<string, CommitOutcome>();
		let taken = 0;
		for (let bytes = 0; taken < this.#waiting.length && bytes < GROUP_BYTES; taken++) {
			const waiting = this.#waiting[taken]!;
			bytes += waiting.bytes;
			this.#seen.push(this.#settle(waiting, now, inGroup));
		}
		this.#waiting = taken === this.#waiting.length ? [] : this.#waiting.slice(taken);
		for (const { waiting } of this.#seen) this.#waitingBytes -= waiting.bytes;
		this.#applied = [...inGroup.values()];
		if (this.#applied.length === 0) return;
		this.#outcomes.write(this.#applied);
		storeRevision(this.#environment.meta, this.#written);
	}

	flushed(): void {
		this.#shown = Math.max(this.#shown, this.#written);
		this.#outcomes.flushed(this.#applied);
		const seen = this.#finish();
		for (const { changes } of seen) {
			for (const { group, packed } of changes) group.push(packed);
		}
		// Commits outside the window move it on as well.
		this.#window.reach(this.#shown);
		for (const { waiting, result } of seen) waiting.resolve(result);
	}

	failed(error: StorageError): void {
		const seen = this.#finish();
		this.#written = this.#stored();
		for (const { waiting } of seen) waiting.reject(error);
		if (this.#writer.stopped?.kind !== "fatal") return;
		for (const waiting of this.#waiting) waiting.reject(refused(error));
		this.#waiting = [];
		this.#waitingBytes = 0;
	}

	#finish(): readonly Seen[] {
		const seen = this.#seen;
		this.#seen = [];
		this.#applied = [];
		if (this.#waiting.length > 0) this.#writer.request(this);
		return seen;
	}

	/** In the transaction: decides a commit, and writes it where its checks hold. */
	#settle(waiting: Waiting, now: number, inGroup: Map<string, CommitOutcome>): Seen {
		const { commit } = waiting;
		const { id, writes } = commit;
		const known = inGroup.get(id) ?? this.#outcomes.get(id, now);
		if (known) {
			const { firstRevision, revision } = known;
			return { waiting, result: { ok: true, firstRevision, revision }, changes: NO_CHANGES };
		}
		const conflicts = this.#commits.conflicts(commit);
		if (conflicts.length > 0) return { waiting, result: { ok: false, conflicts }, changes: NO_CHANGES };
		if (writes.length === 0) {
			const revision = this.#written;
			return { waiting, result: { ok: true, firstRevision: revision, revision }, changes: NO_CHANGES };
		}
		const firstRevision = this.#written + 1;
		const changes = this.#commits.write(writes, firstRevision);
		const revision = this.#written + writes.length;
		this.#written = revision;
		inGroup.set(id, { id, firstRevision, revision, time: now });
		return { waiting, result: { ok: true, firstRevision, revision }, changes };
	}

	#cursor(query: KvRange): Iterable<{ key: string | Uint8Array; value: Uint8Array }> {
		const start = query.start === "" ? undefined : query.start;
		const { end } = query;
		const limit = query.limit + 1;
		if (end !== undefined && compareKeys(query.start, end) >= 0) return [];
		const { kv } = this.#environment;
		if (!query.reverse) return kv.getRange({ start, end, limit });
		return kv.getRange({ start: end, exclusiveStart: end !== undefined, end: undefined, reverse: true, limit });
	}

	/** The revision of what reads see in this turn, which may be flushed but not yet told to its committer. */
	#show(): number {
		this.#shown = Math.max(this.#shown, this.#stored());
		return this.#shown;
	}

	#stored(): number {
		return storedRevision(this.#environment.meta);
	}
}

/** The error for something that was never tried. */
function refused(stopped: StorageError): StorageError {
	return new StorageError(stopped.kind, "not-written", stopped.message, stopped.cause);
}
