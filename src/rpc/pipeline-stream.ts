import { PipelineResponseSchema } from "#gen/qirvo/hub/v1/entries_pb.js";
import type { Clock, IdSource } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import type { UnitSettled, WriteUnit } from "../stores/entry-write.ts";
import { STORE_LIMITS } from "../stores/store-limits.ts";
import type { Call, Encoded } from "./call.ts";
import type { Entries } from "./entry-calls.ts";
import { encodeEntryError } from "./entry-error.ts";
import { type EntryIntake, NO_CHECKS } from "./entry-intake.ts";
import { noSuchEntry, readAddress, readWrite } from "./entry-operations.ts";
import { encodeFailedCheck } from "./failed-check.ts";
import { encodeFrame } from "./messaging-frames.ts";
import { type PipelineKind, PipelineOperations } from "./pipeline-operations.ts";
import { PipelineResults, RESULT_FIELD } from "./pipeline-results.ts";
import { placedError } from "./placed-error.ts";
import { PulledStream } from "./pulled-stream.ts";
import { breaksFrame } from "./send-frames.ts";
import { writerOf } from "./store-admission.ts";
import type { StreamRegistry } from "./stream-ending.ts";
import { readyFrame, streamFrames } from "./stream-frames.ts";
import { readTransaction } from "./transaction-request.ts";
import { encodeTransaction } from "./write-results.ts";

export interface PipelineStreamDeps {
	readonly clock: Clock;
	readonly ids: IdSource;
	readonly entries: Entries;
	readonly intake: EntryIntake;
	readonly streams: StreamRegistry;
}

const FRAMES = streamFrames((frame) => encodeFrame(PipelineResponseSchema, { frame }));

/** Operations whose result was not taken, from which on no frame is read; one frame may come on top. */
const MAX_UNANSWERED = 8192;

/** What an operation on its way takes beside its bytes. */
const OPERATION_BYTES = 256;
/** What is set aside for an entry as it was, which is to be shown: 64 of them may be on their way. */
const SHOWN_BYTES = 128 * 1024;

/** Bytes of what is being written, and of results, above which the same holds. */
const MAX_WRITING_BYTES = 8 * 1024 * 1024;
const MAX_RESULT_BYTES = 8 * 1024 * 1024;

/** A unit of a pipeline. */
interface PipelineUnit extends WriteUnit {
	/** Of the operation. */
	readonly id: number | bigint;
	/** What it counts for while it is on its way. */
	readonly burden: number;
}

/** What a unit holds on its way, about, and what its answer may hold. */
function burdenOf(checks: WriteUnit["checks"], writes: WriteUnit["writes"], bytes: number): number {
	let shown = 0;
	for (const write of writes) {
		if ((write.kind === "set" || write.kind === "delete") && write.returnPrevious) shown += SHOWN_BYTES;
	}
	return bytes + (checks.length + writes.length) * OPERATION_BYTES + Math.min(shown, STORE_LIMITS.previousBytes);
}

/**
 * One `Pipeline` call. Each operation passes the same intake as a unary call, and fails alone. Reads are answered in their turn,
 * writes when they are stored; what the caller does not take holds back what it sends. The end of the stream withdraws the
 * writes that nobody has begun.
 */
export class PipelineStream {
	/** What goes down. */
	readonly responses: PulledStream<Encoded>;
	readonly #deps: PipelineStreamDeps;
	readonly #call: Call;
	readonly #operations = new PipelineOperations();
	readonly #results = new PipelineResults();
	readonly #writer: string;
	readonly #recheck: WriteUnit["recheck"];
	readonly #withdrawal = new AbortController();
	#writing = 0;
	#writingBytes = 0;
	#ready = false;
	#inputEnded = false;
	/** Set once the hub is stopping: what the stream ends with when the writes on their way are answered. */
	#draining: { readonly error: unknown } | undefined;

	/** Refuses callers that are not plugins, and those whose credential no longer stands. */
	constructor(deps: PipelineStreamDeps, requests: AsyncIterable<Uint8Array>, call: Call) {
		this.#deps = deps;
		this.#call = call;
		this.#writer = writerOf(call);
		this.#recheck = deps.intake.recheckOf(call);
		this.responses = new PulledStream({
			clock: deps.clock,
			call,
			// Each operation is judged when it comes.
			streams: deps.streams,
			frames: FRAMES,
			produce: () => this.#produce(),
			onDrain: (error) => this.#drain(error),
			onEnd: () => this.#withdrawal.abort(),
		});
		this.#read(requests).catch((error: unknown) => this.responses.fail(error));
	}

	async #read(requests: AsyncIterable<Uint8Array>): Promise<void> {
		for await (const frame of requests) {
			this.#operations.read(frame);
			for (let index = 0; index < this.#operations.length; index++) {
				while (this.#isFull && !this.#isOver) await this.#roomAgain();
				if (this.#isOver) return;
				this.#take(index);
			}
			this.#operations.clear();
			this.responses.wake();
		}
		this.#inputEnded = true;
		this.#finishWhenDone();
	}

	get #isFull(): boolean {
		const { size, bytes } = this.#results;
		const unanswered = size + this.#writing;
		return unanswered >= MAX_UNANSWERED || this.#writingBytes >= MAX_WRITING_BYTES || bytes >= MAX_RESULT_BYTES;
	}

	/** Whether no operation is begun any more. */
	get #isOver(): boolean {
		return this.responses.ended || this.#draining !== undefined;
	}

	async #roomAgain(): Promise<void> {
		this.responses.wake();
		await this.responses.pulled();
	}

	#take(index: number): void {
		const kind = this.#operations.kind(index);
		try {
			this.#begin(index, kind);
		} catch (error) {
			if (breaksFrame(error)) throw error;
			const path = `operations[${index}]${kind === undefined ? "" : `.${kind}`}`;
			this.#fail(this.#operations.id(index), placedError(error, path));
		}
	}

	#begin(index: number, kind: PipelineKind | undefined): void {
		const { intake, entries } = this.#deps;
		const body = this.#operations.body(index);
		const bytes = body.end - body.pos;
		if (kind === "get") {
			const address = readAddress(body);
			const entry = entries.get(intake.read(this.#call, address), address.key);
			if (entry === undefined) throw noSuchEntry(address);
			this.#results.add(this.#operations.id(index), RESULT_FIELD.entry, entry);
		} else if (kind === "transact") {
			const request = readTransaction(body);
			if (request.requestId !== "") throw HubError.field("request_id", "must be empty in a pipeline");
			const { checks, writes, transactionId } = intake.transaction(this.#call, request, this.#deps.ids.next());
			this.#submit(index, checks, writes, transactionId, bytes);
		} else if (kind !== undefined) {
			this.#submit(index, NO_CHECKS, [intake.admit(this.#call, readWrite(body, kind))], "", bytes);
		} else throw HubError.field("operation", "must be set");
	}

	#submit(
		index: number,
		checks: WriteUnit["checks"],
		writes: WriteUnit["writes"],
		transactionId: string,
		bytes: number,
	): void {
		const burden = burdenOf(checks, writes, bytes);
		this.#writing++;
		this.#writingBytes += burden;
		const unit: PipelineUnit = {
			id: this.#operations.id(index),
			burden,
			writer: this.#writer,
			checks,
			writes,
			transactionId,
			request: undefined,
			recheck: this.#recheck,
			signal: this.#withdrawal.signal,
		};
		this.#deps.entries.submit(unit, this.#settled);
	}

	readonly #settled: UnitSettled<PipelineUnit> = (written, error, { id, burden, transactionId }) => {
		this.#writing--;
		this.#writingBytes -= burden;
		if (this.responses.ended) return;
		if (written === undefined) this.#fail(id, error);
		else if (transactionId === "") this.#results.addWrite(id, written.results[0]!);
		else this.#results.add(id, RESULT_FIELD.transaction, encodeTransaction(written));
		this.responses.wake();
		this.#finishWhenDone();
	};

	#fail(id: number | bigint, failure: unknown): void {
		const error = encodeEntryError(failure, this.#call.requestId);
		const checks = failure instanceof HubError ? failure.options.failedChecks : undefined;
		if (checks === undefined) this.#results.add(id, RESULT_FIELD.error, error);
		else this.#results.addFailed(id, error, checks.map(encodeFailedCheck));
	}

	#produce(): Encoded | undefined {
		if (this.#ready) return this.#results.take();
		this.#ready = true;
		return encodeFrame(PipelineResponseSchema, { frame: readyFrame(this.#call.requestId) });
	}

	/** What was begun is answered; nothing more is begun. */
	#drain(error: unknown): void {
		this.#draining = { error };
		this.#finishWhenDone();
	}

	#finishWhenDone(): void {
		if (this.#writing > 0) return;
		if (this.#draining !== undefined) this.responses.finish(this.#draining.error);
		else if (this.#inputEnded) this.responses.finish();
	}
}
