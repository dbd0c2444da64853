import { type Client, createClient } from "@connectrpc/connect";
import { StoreService } from "#gen/qirvo/hub/v1/store_service_pb.js";
import { DeadlineQueue } from "../streams/deadline-queue.ts";
import { Admission } from "./admission.ts";
import type { ClientContext } from "./client-context.ts";
import { cancelled } from "./errors.ts";
import { OperationCalls } from "./operation-calls.ts";
import { OperationChannel } from "./operation-channel.ts";
import { OperationEncoder } from "./operation-encoder.ts";
import type { OperationSink } from "./operation-sink.ts";
import { type OperationFate, type OperationOwner, PendingOperation } from "./pending-operation.ts";
import type { WireRange } from "./wire-range.ts";
import type { WriteAnswer } from "./write-answer.ts";

/** Operations without an answer before the next one waits. */
const MAX_UNANSWERED = 16_384;
const MAX_UNANSWERED_BYTES = 32 * 1024 * 1024;

/** Hears of what this client writes. */
export interface WriteListener {
	/** 0: the write found nothing to do. */
	wrote(key: string, revision: bigint): void;
}

/** The operations of one client on entries of any store: encoded, bounded, on their way and overdue. */
export class StoreTraffic implements OperationOwner {
	readonly context: ClientContext;
	/** For calls of any kind. */
	readonly client: Client<typeof StoreService>;
	readonly #encoder = new OperationEncoder();
	readonly #admission = new Admission(MAX_UNANSWERED, MAX_UNANSWERED_BYTES);
	readonly #deadlines: DeadlineQueue;
	readonly #calls: OperationSink;
	readonly #channel: OperationSink;
	readonly #caches = new Map<string, Set<WriteListener>>();
	#nextId = 1;

	constructor(context: ClientContext) {
		this.context = context;
		this.#deadlines = new DeadlineQueue(context.clock);
		this.client = createClient(StoreService, context.transport);
		this.#calls = new OperationCalls(context, this.client);
		this.#channel = context.bidi ? new OperationChannel(context, this.#calls) : this.#calls;
		context.session.signal.addEventListener("abort", () => this.#deadlines[Symbol.dispose](), { once: true });
	}

	/** Encodes an operation and sends it when it has a place. Rejects with what the encoding throws. */
	submit<R>(
		key: string,
		fate: OperationFate<R>,
		encode: (encoder: OperationEncoder, id: number) => WireRange,
	): Promise<R> {
		if (fate.signal?.aborted) return Promise.reject(cancelled(fate.signal));
		let operation: PendingOperation<R>;
		try {
			const id = this.#nextId++;
			const at = this.context.clock.monotonic() + fate.timeoutMs;
			operation = new PendingOperation(this, id, key, encode(this.#encoder, id), at, fate);
		} catch (error) {
			return Promise.reject(error);
		}
		this.#deadlines.add(operation);
		try {
			this.#admission.enter(operation);
		} catch (error) {
			operation.reject(error);
		}
		return operation.promise;
	}

	admitted(operation: PendingOperation): void {
		(operation.fate.requestId === undefined ? this.#channel : this.#calls).push(operation);
	}

	written(store: string, key: string, { revision }: WriteAnswer): void {
		if (this.#caches.size === 0) return;
		for (const cache of this.#caches.get(store) ?? []) cache.wrote(key, revision);
	}

	/** Has the cache hear of what this client writes to the store. */
	addCache(store: string, cache: WriteListener): Disposable {
		const caches = this.#caches.get(store) ?? new Set();
		this.#caches.set(store, caches.add(cache));
		return {
			[Symbol.dispose]: () => {
				caches.delete(cache);
				if (caches.size === 0 && this.#caches.get(store) === caches) this.#caches.delete(store);
			},
		};
	}

	left(operation: PendingOperation): void {
		this.#deadlines.remove(operation);
		if (operation.entered) this.#admission.leave(operation.bytes);
	}
}
