import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type FirstAnswerRecord, FirstAnswerRecordSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import type { Clock, IdSource, Timer } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import { keys, prefixes } from "../state/key-layout.ts";
import { compareKeys } from "../state/key-order.ts";
import type { KvCheck, KvCommit, KvCommitResult, KvEntry, KvStore, KvWrite } from "../state/kv-store.ts";
import { prefixEnd } from "../state/state-backend.ts";
import { AnswerCounts } from "./answer-counts.ts";
import { repeatUnknown, storageRefusal } from "./storage-refusal.ts";

/** A mutation that its caller may send again without doing it again. */
export interface RepeatableRequest {
	/** Who sends it; request ids of different principals do not meet. Without `/`. */
	readonly principal: string;
	/** A word for the method, without `/`. */
	readonly method: string;
	/** Chosen by the caller, 1 to 128 characters. */
	readonly requestId: string;
	/** `requestDigest` of the request: another one under the same id is ID_REUSED. */
	readonly digest: Uint8Array;
}

/** What a mutation would do to the state as it is now. */
export interface CommitPlan<T> {
	readonly checks: readonly KvCheck[];
	/** At most 999. */
	readonly writes: readonly KvWrite[];
	readonly answer: T;
}

/** How an answer is kept. */
export interface AnswerCodec<T> {
	encode(answer: T): Uint8Array;
	decode(bytes: Uint8Array): T;
}

/** That a mutation has an effect once, however often it is sent. */
export interface Once<T> {
	readonly request: RepeatableRequest;
	readonly codec: AnswerCodec<T>;
}

export interface Settled<T> {
	/** A repeat gets what the first one got. */
	readonly answer: T;
	readonly duplicate: boolean;
	/**
	 * The revision that the first of the plan's writes got, then and now: an answer is kept before its commit's revision
	 * is known, so whoever shows one fills it in from here. 0 where nothing was written.
	 */
	readonly firstRevision: number;
}

/** An answer that is to be stored in somebody's commit. */
export interface RememberedAnswer {
	/** Fails where the request was answered meanwhile. */
	readonly check: KvCheck;
	readonly write: KvWrite;
	/** To be called once it is stored. */
	stored(): void;
}

export interface FirstAnswersOptions {
	readonly kv: KvStore;
	readonly clock: Clock;
	readonly ids: IdSource;
	/** How long an answer is given again, in milliseconds. Default 2 minutes. */
	readonly windowMs?: number;
	/** Answers kept for one principal; one more is LIMIT_EXCEEDED. Default 1,000. */
	readonly maxPerPrincipal?: number;
	/** Answers kept in all. Default 100,000. */
	readonly maxAnswers?: number;
}

const MAX_ATTEMPTS = 1000;
const PURGE_WRITES = 500;

/**
 * Commits mutations, each request id once.
 *
 * - The first answer is a write of the mutation's own commit, checked absent: both are stored or neither is.
 * - Repeats in flight at the same time settle on one answer: those that lose the check read it.
 * - Answers outlive a restart and are dropped by age. One past its age counts as absent, whether it was dropped or not.
 */
export class FirstAnswers implements AsyncDisposable {
	readonly #kv: KvStore;
	readonly #clock: Clock;
	readonly #ids: IdSource;
	readonly #windowMs: number;
	readonly #maxPerPrincipal: number;
	readonly #maxAnswers: number;
	#kept = new AnswerCounts();
	/** What a purge under way has counted so far, of the keys below `end`. */
	#recount: { readonly kept: AnswerCounts; end: string } | undefined;
	#timer: Timer | undefined;
	#purging: Promise<void> = Promise.resolve();
	#disposed = false;

	constructor(options: FirstAnswersOptions) {
		this.#kv = options.kv;
		this.#clock = options.clock;
		this.#ids = options.ids;
		this.#windowMs = options.windowMs ?? 120_000;
		this.#maxPerPrincipal = options.maxPerPrincipal ?? 1000;
		this.#maxAnswers = options.maxAnswers ?? 100_000;
	}

	/** Drops what is past its age, counts the rest and goes on doing so. */
	async start(): Promise<void> {
		await this.purge();
		if (this.#disposed) return;
		this.#timer = this.#clock.every(Math.max(1, Math.floor(this.#windowMs / 4)), () => {
			this.#purging = this.#purging.then(() => this.purge()).catch(() => {});
		});
	}

	/**
	 * Runs `plan` on the present state and commits what it says; again where the state moved in between. `plan` must be
	 * synchronous, and may throw to refuse. Without `once` nothing is remembered; a plan without writes is then
	 * answered without a commit.
	 *
	 * Refuses with ID_REUSED, LIMIT_EXCEEDED (too many request ids within the window), STORAGE_FULL and
	 * STORAGE_UNAVAILABLE; after the last the outcome may be unknown, and repeating the request id settles it.
	 */
	async settle<T>(plan: () => CommitPlan<T>, once?: Once<T>): Promise<Settled<T>> {
		for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
			const known = once && this.known(once);
			if (known !== undefined) return known;
			const { checks, writes, answer } = plan();
			if (!once && writes.length === 0) return { answer, duplicate: false, firstRevision: 0 };
			const remembered = once && this.remember(once.request, once.codec.encode(answer));
			const result = await this.#commit({
				id: this.#ids.next(),
				checks: remembered ? [remembered.check, ...checks] : checks,
				writes: remembered ? [remembered.write, ...writes] : writes,
			});
			if (!result.ok) continue;
			remembered?.stored();
			return { answer, duplicate: false, firstRevision: result.firstRevision + (remembered ? 1 : 0) };
		}
		throw new HubError("STORAGE_UNAVAILABLE", "too many others change the same thing", { retryAfterMs: 1000 });
	}

	/** The answer that a request was given; undefined: it is a new one. Refuses with ID_REUSED. */
	known<T>({ request, codec }: Once<T>): Settled<T> | undefined {
		const found = this.#find(request);
		if (found?.record === undefined) return undefined;
		const answer = codec.decode(found.record.response);
		return { answer, duplicate: true, firstRevision: found.revision + 1 };
	}

	/**
	 * For those who commit on their own what is not `known`: the answer as a write, to stand before those that it answers for.
	 * Refuses with LIMIT_EXCEEDED.
	 */
	remember(request: RepeatableRequest, response: Uint8Array): RememberedAnswer {
		const revision = this.#find(request)?.revision ?? 0;
		const stored = () => {
			if (revision === 0) this.#count(request);
		};
		return { ...this.#draft(request, revision, response), stored };
	}

	/** Drops answers past their age, and counts the others. What cannot be dropped now is dropped next time. One at a time. */
	async purge(): Promise<void> {
		const end = prefixEnd(prefixes.idempotency);
		const recount = { kept: new AnswerCounts(), end: prefixes.idempotency as string };
		this.#recount = recount;
		try {
			while (recount.end !== end) {
				const page = this.#kv.range({ start: recount.end, end, limit: PURGE_WRITES });
				const expired = [];
				for (const entry of page.entries) {
					if (this.#isFresh(decode(entry))) recount.kept.add(principalOf(entry.key));
					else expired.push(entry);
				}
				recount.end = page.more ? `${page.entries.at(-1)!.key}\0` : end;
				await this.#drop(expired);
				if (this.#disposed) return;
			}
			this.#kept = recount.kept;
		} finally {
			this.#recount = undefined;
		}
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#disposed = true;
		this.#timer?.cancel();
		await this.#purging;
	}

	/** The live answer; or only the revision of one past its age, which a new answer replaces. */
	#find(request: RepeatableRequest): { record?: FirstAnswerRecord; revision: number } | undefined {
		const entry = this.#kv.get(keyOf(request));
		if (!entry) return undefined;
		const record = decode(entry);
		if (!this.#isFresh(record)) return { revision: entry.revision };
		if (Buffer.compare(record.requestDigest, request.digest) !== 0) {
			throw new HubError("ID_REUSED", "request_id: was used for another request", {
				metadata: { request_id: request.requestId },
			});
		}
		return { record, revision: entry.revision };
	}

	/** Also of one from the time to come, as the clock was stepped back, but not from so far that it would stay. */
	#isFresh(record: FirstAnswerRecord): boolean {
		return Math.abs(this.#clock.now() - Number(record.timeMs)) < this.#windowMs;
	}

	#draft(request: RepeatableRequest, revision: number, response: Uint8Array): { check: KvCheck; write: KvWrite } {
		const mine = this.#kept.of(request.principal);
		if (revision === 0 && (mine >= this.#maxPerPrincipal || this.#kept.total >= this.#maxAnswers)) {
			throw new HubError("LIMIT_EXCEEDED", "too many request ids within the time they are remembered", {
				retryAfterMs: this.#windowMs,
				quota: { subject: request.principal, description: `at most ${this.#maxPerPrincipal} request ids` },
			});
		}
		const key = keyOf(request);
		const record = create(FirstAnswerRecordSchema, {
			requestDigest: request.digest,
			response,
			timeMs: BigInt(this.#clock.now()),
		});
		return { check: { key, revision }, write: { key, value: toBinary(FirstAnswerRecordSchema, record) } };
	}

	async #commit(commit: KvCommit): Promise<KvCommitResult> {
		try {
			return await repeatUnknown(this.#kv, commit);
		} catch (error) {
			throw storageRefusal(error);
		}
	}

	async #drop(entries: readonly KvEntry[]): Promise<void> {
		if (entries.length === 0) return;
		await this.#kv.commit({
			id: this.#ids.next(),
			checks: entries.map(({ key, revision }) => ({ key, revision })),
			writes: entries.map(({ key }) => ({ key, delete: true })),
		});
	}

	/**
	 * Counts a new answer. A purge under way may have passed its key; one that saw it a moment ago counts it twice, which
	 * the next one mends.
	 */
	#count(request: RepeatableRequest): void {
		this.#kept.add(request.principal);
		const recount = this.#recount;
		if (recount && compareKeys(keyOf(request), recount.end) < 0) recount.kept.add(request.principal);
	}
}

function decode(entry: KvEntry): FirstAnswerRecord {
	return fromBinary(FirstAnswerRecordSchema, entry.value);
}

function keyOf({ principal, method, requestId }: RepeatableRequest): string {
	return keys.firstAnswer(principal, method, requestId);
}

function principalOf(key: string): string {
	return key.slice(prefixes.idempotency.length, key.indexOf("/", prefixes.idempotency.length));
}
