import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
	Code,
	ConnectError,
	type ConnectRouter,
	createRouterTransport,
	type HandlerContext,
} from "@connectrpc/connect";
import {
	ChangeCause,
	type Entry,
	EntrySchema,
	type FailedCheckSchema,
	FailedChecksSchema,
	type PipelineOperation,
	type PipelineRequest,
	type PipelineResponseSchema,
	type PipelineResultSchema,
	type SetOperation,
	type TransactionWrite,
	type WriteResultSchema,
} from "#gen/qirvo/hub/v1/entries_pb.js";
import { type ExpectedState, type Payload, PayloadSchema } from "#gen/qirvo/hub/v1/payload_pb.js";
import { StoreService } from "#gen/qirvo/hub/v1/store_service_pb.js";
import type {
	EntryChangeSchema,
	StoreServiceWatchRequest,
	StoreServiceWatchResponseSchema,
} from "#gen/qirvo/hub/v1/store_watch_pb.js";
import { parseKeyGlob } from "../../src/subjects/key-glob.ts";
import { hubError } from "../harness/hub-error.ts";
import { Signal } from "../harness/signal.ts";
import { untilAborted } from "../harness/until-aborted.ts";
import { FakeHub } from "./client-fake-hub.ts";

type Result = MessageInitShape<typeof PipelineResultSchema>;
type Write = MessageInitShape<typeof WriteResultSchema>;
type Change = MessageInitShape<typeof EntryChangeSchema> & { readonly key: string; readonly revision: bigint };
type WatchFrame = MessageInitShape<typeof StoreServiceWatchResponseSchema>;
type Check = MessageInitShape<typeof FailedCheckSchema>;

const EVERYTHING = 2n ** 62n;

/** An operation that is refused. */
class Refusal extends Error {
	readonly reason: string;
	readonly code: Code;
	readonly checks: Check[];

	constructor(reason: string, code: Code, checks: Check[] = []) {
		super(reason);
		this.reason = reason;
		this.code = code;
		this.checks = checks;
	}

	toConnect(): ConnectError {
		const error = hubError(this.reason, this.code);
		if (this.checks.length > 0) error.details.push({ desc: FailedChecksSchema, value: { checks: this.checks } });
		return error;
	}
}

/** A fake hub with one store, `s`, in memory: enough of StoreService to break in every way that matters to the client. */
export class FakeStoreHub extends FakeHub {
	readonly entries = new Map<string, Entry>();
	/** Each operation that was done, as `get a`. */
	readonly done: string[] = [];
	readonly frames: number[] = [];
	readonly watches: StoreServiceWatchRequest[] = [];
	storeEpoch = "s1";
	revision = 0n;
	/** Changes up to here are not kept. */
	keptFrom = 0n;
	/** So many operations are done, and the stream or call breaks instead of answering. */
	loseAnswers = 0;
	/** Frames of a watch after which it breaks. */
	breakWatchAfter = 0;
	refusePipeline = false;
	/** Watches are told no changes beyond this revision. */
	tellUpTo = EVERYTHING;
	/** No answers are given while this is set. */
	silent = false;
	changes: Change[] = [];
	#beats = 0;
	readonly #stirred = new Signal();
	readonly #answers = new Map<string, Write>();
	#cut = new AbortController();

	override transport() {
		return createRouterTransport((router) => {
			this.routes(router);
			this.#storeRoutes(router);
		});
	}

	override disconnect(): void {
		super.disconnect();
		this.#cut.abort(new ConnectError("connection lost", Code.Unavailable));
		this.#cut = new AbortController();
	}

	/** Writes as another plugin would. */
	put(key: string, value: unknown): bigint {
		return this.#set({ key, value: json(value) } as SetOperation).revision!;
	}

	remove(key: string, cause: ChangeCause = ChangeCause.DELETED): void {
		const previous = this.entries.get(key);
		if (previous === undefined) return;
		this.entries.delete(key);
		this.#note({ key, previous, revision: ++this.revision, cause, actor: "other" });
	}

	/** Lets watches be told of so many more revisions; without a number of all. */
	tell(more?: bigint): void {
		this.tellUpTo = more === undefined ? EVERYTHING : this.tellUpTo + more;
		this.#stirred.raise();
	}

	/** Watches that have nothing to tell say so. */
	beat(): void {
		this.#beats++;
		this.#stirred.raise();
	}

	/** Watches are told nothing more. */
	hold(): void {
		if (this.tellUpTo > this.revision) this.tellUpTo = this.revision;
	}

	/** Forgets changes, so that no watch resumes from before now. */
	trim(): void {
		this.keptFrom = this.revision;
		this.changes = [];
	}

	/** The store is deleted and made again; `revision` is where its numbering goes on. */
	remake(epoch: string, revision: bigint): void {
		this.storeEpoch = epoch;
		this.entries.clear();
		this.revision = revision;
		this.trim();
	}

	/** The values by key. */
	values(): Record<string, unknown> {
		return Object.fromEntries([...this.entries].map(([key, { value }]) => [key, parsed(value)]));
	}

	#storeRoutes(router: ConnectRouter): void {
		const answered = async (operation: PipelineOperation["operation"], requestId = "") => {
			const known = requestId === "" ? undefined : this.#answers.get(requestId);
			const result = known ?? ((await this.#perform(operation)) as Write);
			if (requestId !== "") this.#answers.set(requestId, result);
			this.#breakMaybe();
			return { result, duplicate: known !== undefined };
		};
		router.service(StoreService, {
			get: async ({ key }) => {
				const entry = this.#perform({ case: "get", value: { key } } as PipelineOperation["operation"]) as Entry;
				this.#breakMaybe();
				return { entry };
			},
			set: ({ set, requestId }) => answered({ case: "set", value: set! }, requestId),
			delete: (request) => answered({ case: "delete", value: request.delete! }, request.requestId),
			increment: ({ increment, requestId }) => answered({ case: "increment", value: increment! }, requestId),
			append: ({ append, requestId }) => answered({ case: "append", value: append! }, requestId),
			transact: (request) => this.#perform({ case: "transact", value: request }) as object,
			pipeline: (requests, context) => this.#pipeline(requests, context),
			watch: (request, context) => this.#watch(request, context),
			list: ({ prefix, pageToken, pageSize, keysOnly }) => {
				this.#breakMaybe();
				const keys = [...this.entries.keys()].filter((key) => key.startsWith(prefix) && key > pageToken).sort();
				const page = keys.slice(0, pageSize).map((key) => this.entries.get(key)!);
				const entries = keysOnly ? page.map((entry) => ({ ...entry, value: undefined })) : page;
				return { entries, nextPageToken: keys.length > pageSize ? keys[pageSize - 1]! : "" };
			},
		});
	}

	#breakMaybe(): void {
		if (this.loseAnswers-- > 0) throw new ConnectError("lost", Code.Unavailable);
	}

	#perform({ case: kind, value }: PipelineOperation["operation"]): Entry | Write | object {
		try {
			if (kind === "transact") {
				this.#expect([...value.checks, ...value.writes.map(({ write }) => write.value as never)]);
				const results = value.writes.map(({ write }) => this.#write(write));
				this.done.push("transact");
				return { results, transactionId: `t${this.revision}` };
			}
			if (kind === "get") {
				this.done.push(`get ${value.key}`);
				const entry = this.entries.get(value.key);
				if (entry === undefined) throw new Refusal("ENTRY_NOT_FOUND", Code.NotFound);
				return entry;
			}
			if (kind === undefined) throw new Refusal("INVALID_FIELD", Code.InvalidArgument);
			this.done.push(`${kind} ${value.key}`);
			this.#expect([value as never]);
			return this.#write({ case: kind, value } as TransactionWrite["write"]);
		} catch (error) {
			throw error instanceof Refusal ? error.toConnect() : error;
		}
	}

	#write({ case: kind, value }: TransactionWrite["write"]): Write {
		if (kind === "set") return this.#set(value);
		if (kind === "delete") {
			const had = this.entries.has(value.key);
			this.remove(value.key);
			return { changed: had, revision: had ? this.revision : 0n };
		}
		const before = parsed(this.entries.get(value!.key)?.value);
		if (kind === "increment") {
			const number = ((before as number | undefined) ?? 0) + Number(value.delta);
			return { ...this.#set({ key: value.key, value: json(number) } as SetOperation), number: BigInt(number) };
		}
		const list = (before as unknown[] | undefined) ?? [];
		const element = JSON.parse((value as { elementJson: string }).elementJson);
		if (list.includes(element)) return { changed: false, revision: this.entries.get(value!.key)!.revision };
		return this.#set({ key: value!.key, value: json([...list, element]) } as SetOperation);
	}

	#expect(writes: readonly { key: string; expected?: ExpectedState }[]): void {
		const failed = writes.flatMap(({ key, expected }) => {
			const actual = this.entries.get(key)?.revision ?? 0n;
			const state = expected?.state;
			const holds =
				state === undefined ||
				state.case === "any" ||
				(state.case === "absent" && actual === 0n) ||
				(state.case === "exists" && actual !== 0n) ||
				(state.case === "revision" && state.value === actual);
			return holds ? [] : [{ store: "s", key, expected, actualRevision: actual } as Check];
		});
		if (failed.length > 0) throw new Refusal("REVISION_MISMATCH", Code.Aborted, failed);
	}

	#set({ key, value, instanceId = "", returnPrevious }: SetOperation): Write {
		const previous = this.entries.get(key);
		const revision = ++this.revision;
		const createRevision = previous?.createRevision ?? revision;
		const entry = create(EntrySchema, { key, value, revision, createRevision, writer: "me", instanceId });
		this.entries.set(key, entry);
		this.#note({ key, entry, previous, revision, cause: ChangeCause.SET, actor: "me" });
		return { revision, changed: true, ...(returnPrevious && previous && { previous }) };
	}

	#note(change: Change): void {
		this.changes.push(change);
		this.#stirred.raise();
	}

	async *#pipeline(requests: AsyncIterable<PipelineRequest>, context: HandlerContext) {
		if (this.refusePipeline) throw hubError("CALLER_NOT_ALLOWED", Code.PermissionDenied);
		const cut = this.#cut.signal;
		const signal = AbortSignal.any([context.signal, cut]);
		const frame = (value: MessageInitShape<typeof PipelineResponseSchema>) => value;
		yield frame({ frame: { case: "ready", value: { id: "p", heartbeatInterval: { seconds: 15n } } } });
		for await (const { operations } of untilAborted(requests, signal)) {
			this.frames.push(operations.length);
			const results = operations.map((operation) => this.#answer(operation));
			while (this.silent && !signal.aborted) await this.#stirred.wait(signal);
			this.#breakMaybe();
			yield frame({ frame: { case: "results", value: { results } } });
		}
		if (cut.aborted) throw cut.reason;
	}

	#answer({ id, operation }: PipelineOperation): Result {
		try {
			const value = this.#perform(operation);
			if (operation.case === "get") return { id, result: { case: "entry", value: value as Entry } };
			if (operation.case === "transact") return { id, result: { case: "transaction", value: value as object } };
			return { id, result: { case: "write", value: value as Write } };
		} catch (thrown) {
			const error = thrown as ConnectError;
			const reason = error.rawMessage.toUpperCase();
			const failedChecks = error.findDetails(FailedChecksSchema)[0]?.checks ?? [];
			return { id, result: { case: "error", value: { code: error.code, reason, message: reason } }, failedChecks };
		}
	}

	async *#watch(request: StoreServiceWatchRequest, context: HandlerContext): AsyncGenerator<WatchFrame> {
		this.watches.push(request);
		const { watchId, keyGlob, start } = request.watches[0]!;
		const glob = keyGlob === "" ? undefined : parseKeyGlob(keyGlob, "glob");
		const matches = ({ key }: { readonly key: string }) => glob?.matches(key) ?? true;
		const cut = this.#cut.signal;
		const signal = AbortSignal.any([context.signal, cut]);
		const epoch = this.storeEpoch;
		yield { frame: { case: "ready", value: { id: "w", heartbeatInterval: { seconds: 15n } } } };
		let left = this.breakWatchAfter > 0 ? this.breakWatchAfter : Number.POSITIVE_INFINITY;
		const spend = () => {
			if (left-- <= 0) throw new ConnectError("lost", Code.Unavailable);
		};
		const ended = (reason: string): WatchFrame => ({
			frame: { case: "ended", value: { watchId, error: { code: Code.OutOfRange, reason, message: reason } } },
		});
		let at = this.revision;
		if (start.case === "after") {
			at = start.value.sequence;
			if (start.value.epoch !== epoch || at < this.keptFrom) return yield ended("POSITION_TRIMMED");
		} else if (start.case !== "new") {
			const page = [...this.entries.values()].filter(matches).sort((a, b) => (a.key < b.key ? -1 : 1));
			for (let from = 0; from < page.length; from += 3) {
				const changes = page.slice(from, from + 3).map((entry) => ({
					key: entry.key,
					entry,
					revision: entry.revision,
					cause: ChangeCause.SET,
				}));
				spend();
				yield { frame: { case: "batch", value: { watchId, changes } } };
			}
		}
		const target = this.revision;
		let caughtUp = false;
		let beats = this.#beats;
		while (!signal.aborted) {
			if (this.storeEpoch !== epoch) return yield ended("STORE_NOT_FOUND");
			if (at < this.keptFrom) return yield ended("POSITION_TRIMMED");
			const news = this.changes.filter(({ revision }) => revision > at && revision <= this.tellUpTo).slice(0, 3);
			at = news.at(-1)?.revision ?? at;
			const changes = news.filter(matches);
			const position = { epoch, sequence: at };
			if (changes.length > 0) {
				spend();
				yield { frame: { case: "batch", value: { watchId, changes, position } } };
			} else if (!caughtUp && at >= target) {
				caughtUp = true;
				spend();
				yield { frame: { case: "caughtUp", value: { watchId, position } } };
			} else if (news.length === 0) {
				const isDue = caughtUp && beats < this.#beats && this.tellUpTo === EVERYTHING;
				beats = this.#beats;
				if (isDue) {
					yield { frame: { case: "heartbeat", value: { positions: [{ watchId, position }] } } };
				} else await this.#stirred.wait(signal);
			}
		}
		if (cut.aborted) throw cut.reason;
	}
}

function json(value: unknown): Payload {
	return create(PayloadSchema, { body: { case: "json", value: JSON.stringify(value) } });
}

function parsed(payload: Payload | undefined): unknown {
	return payload?.body.case === "json" ? JSON.parse(payload.body.value) : payload?.body.value;
}
