import { fromBinary } from "@bufbuild/protobuf";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { Code } from "@connectrpc/connect";
import {
	type PipelineOperation,
	PipelineOperationSchema,
	type TransactResponse,
} from "#gen/qirvo/hub/v1/entries_pb.js";
import type { Deadline } from "../streams/deadline-queue.ts";
import type { Entrant } from "./admission.ts";
import { cancelled, HubClientError } from "./errors.ts";
import type { AnyEntry } from "./store-entry.ts";
import type { WireRange } from "./wire-range.ts";
import type { WriteAnswer } from "./write-answer.ts";

/** What an operation takes beside its bytes, for the bound of what is on its way. */
const OPERATION_BYTES = 256;

/** What a caller gets of the hub's answer, by the answer's kind; may throw. */
export interface AnswerTaker<R> {
	/** Of a get; undefined: there is no entry. */
	readonly entry?: (entry: AnyEntry | undefined) => R;
	readonly write?: (write: WriteAnswer) => R;
	readonly transaction?: (transaction: TransactResponse) => R;
}

/**
 * Whether an operation may be sent again when the connection broke before its answer: `always` (it does no harm), `exact` (it takes
 * effect once at most, but its answer to a repeat may be about its own effect), `never`.
 */
export type Repeat = "always" | "exact" | "never";

/** A key of a store. */
export interface WriteTarget {
	readonly store: string;
	readonly key: string;
}

/** Who an operation belongs to. */
export interface OperationOwner {
	/** It has its place, and may be sent. */
	admitted(operation: PendingOperation): void;
	/** What a write did, before the caller hears of it. */
	written(store: string, key: string, answer: WriteAnswer): void;
	/** It is settled; called once. */
	left(operation: PendingOperation): void;
}

/** What operations of one kind have in common; of those without options one object serves for all. */
export interface OperationFate<R> {
	readonly taker: AnswerTaker<R>;
	readonly store: string;
	/** What a transaction writes, in order. */
	readonly targets?: readonly WriteTarget[] | undefined;
	readonly repeat: Repeat;
	/** A repeat under the same id gives the first answer; goes by a unary call. */
	readonly requestId?: string | undefined;
	readonly timeoutMs: number;
	readonly signal?: AbortSignal | undefined;
}

/** One operation on entries, from the call until it is settled. */
export class PendingOperation<R = unknown> implements Entrant, Deadline {
	readonly id: number;
	/** Empty for a transaction. */
	readonly key: string;
	readonly range: WireRange;
	readonly promise: Promise<R>;
	readonly fate: OperationFate<R>;
	/** On the monotonic clock. */
	readonly at: number;
	/** Of the deadline queue. */
	slot = -1;
	/** `Clock.monotonic()` of the first time it was sent. */
	sentAt: number | undefined = undefined;
	/** Sent again after a loss. */
	repeated = false;
	settled = false;
	entered = false;
	/** Ends what is under way for it when its caller no longer waits. */
	giveUp: (() => void) | undefined = undefined;
	readonly #owner: OperationOwner;
	#resolve!: (result: R) => void;
	#reject!: (error: unknown) => void;
	#abandon: (() => void) | undefined;

	constructor(owner: OperationOwner, id: number, key: string, range: WireRange, at: number, fate: OperationFate<R>) {
		this.#owner = owner;
		this.id = id;
		this.key = key;
		this.range = range;
		this.at = at;
		this.fate = fate;
		this.promise = new Promise<R>((resolve, reject) => {
			this.#resolve = resolve;
			this.#reject = reject;
		});
		const { signal } = fate;
		if (signal === undefined) return;
		this.#abandon = () => this.#leave(cancelled(signal));
		signal.addEventListener("abort", this.#abandon, { once: true });
	}

	get bytes(): number {
		return OPERATION_BYTES + this.range.byteLength;
	}

	/** The operation as the contract has it. */
	toMessage(): PipelineOperation {
		const reader = new BinaryReader(this.range.bytes);
		reader.tag();
		return fromBinary(PipelineOperationSchema, reader.bytes());
	}

	enter(): boolean {
		if (this.settled) return false;
		this.entered = true;
		this.#owner.admitted(this as PendingOperation);
		return true;
	}

	/** The deadline is over. */
	run(): void {
		const { timeoutMs } = this.fate;
		this.#leave(
			new HubClientError(
				"DEADLINE_EXCEEDED",
				`no answer within ${timeoutMs} ms; a write that was sent may still happen`,
				{
					code: Code.DeadlineExceeded,
				},
			),
		);
	}

	/** The answer to a get. */
	gotEntry(entry: AnyEntry | undefined): void {
		this.#answer(this.fate.taker.entry, entry);
	}

	/** The answer to a write. */
	wrote(write: WriteAnswer): void {
		this.#owner.written(this.fate.store, this.key, write);
		this.#answer(this.fate.taker.write, write);
	}

	/** The answer to a transaction. */
	transacted(transaction: TransactResponse): void {
		for (const [index, { store, key }] of (this.fate.targets ?? []).entries()) {
			const write = transaction.results[index];
			if (write) this.#owner.written(store, key, write);
		}
		this.#answer(this.fate.taker.transaction, transaction);
	}

	/** The hub refused it. */
	refused(error: HubClientError): void {
		if (error.reason === "ENTRY_NOT_FOUND" && this.fate.taker.entry) this.gotEntry(undefined);
		else if (error.reason === "REVISION_MISMATCH" && this.repeated && this.fate.repeat === "exact") {
			this.reject(lostAnswer(error));
		} else this.reject(error);
	}

	/** The connection broke before its answer. Whether it is to be sent again; else it is settled. */
	lost(cause: unknown): boolean {
		if (this.settled) return false;
		this.repeated = true;
		if (this.fate.repeat !== "never" || this.fate.requestId !== undefined) return true;
		this.reject(lostAnswer(cause));
		return false;
	}

	reject(error: unknown): void {
		if (this.#settle()) this.#reject(error);
	}

	#answer<A>(take: ((answer: A) => R) | undefined, answer: A): void {
		if (!this.#settle()) return;
		try {
			if (take === undefined)
				throw new HubClientError("UNKNOWN", "the hub gave another kind of answer than was asked for");
			this.#resolve(take(answer));
		} catch (error) {
			this.#reject(error);
		}
	}

	#leave(error: HubClientError): void {
		this.reject(error);
		this.giveUp?.();
	}

	#settle(): boolean {
		if (this.settled) return false;
		this.settled = true;
		if (this.#abandon !== undefined) this.fate.signal?.removeEventListener("abort", this.#abandon);
		this.#owner.left(this as PendingOperation);
		return true;
	}
}

/** What a write fails with that may have been done or not. */
export function lostAnswer(cause: unknown): HubClientError {
	return new HubClientError("OUTCOME_UNKNOWN", "the connection broke before the answer; the write may have been done", {
		code: Code.Unknown,
		cause,
	});
}
