import type { PipelineResponse } from "#gen/qirvo/hub/v1/entries_pb.js";
import type { ClientContext } from "./client-context.ts";
import type { HubClientError } from "./errors.ts";
import { keepOpen } from "./keep-open.ts";
import { OperationBatch, settleResults, type WireResults, wirePipeline } from "./operation-frames.ts";
import type { OperationSink } from "./operation-sink.ts";
import type { PendingOperation } from "./pending-operation.ts";
import { endedEarly, readFrames } from "./read-frames.ts";
import type { Connection } from "./session-loop.ts";
import { WakeUp } from "./wake-up.ts";

/** The hub takes 4,096 operations and 4 MiB a frame. */
const MAX_BATCH_OPERATIONS = 2_048;
const MAX_BATCH_BYTES = 1024 * 1024;

/**
 * Operations over one `Pipeline`; what waits when the transport can take more makes one frame.
 *
 * After a loss what was not sent yet waits for the next connection. What was sent and not answered is sent again where that does no
 * harm, and fails with OUTCOME_UNKNOWN otherwise. A caller whom the hub gives no pipeline, such as an operator, is served by calls.
 */
export class OperationChannel implements OperationSink {
	readonly #context: ClientContext;
	readonly #calls: OperationSink;
	readonly #pending = new Map<number, PendingOperation>();
	#queue: PendingOperation[] = [];
	#wake: WakeUp | undefined;
	#open = false;
	#refused = false;

	constructor(context: ClientContext, calls: OperationSink) {
		this.#context = context;
		this.#calls = calls;
	}

	/** Operations are bounded by the `Admission` that let them in. */
	push(operation: PendingOperation): void {
		if (this.#refused) {
			this.#calls.push(operation);
			return;
		}
		this.#queue.push(operation);
		if (!this.#open) void this.#keepOpen();
		this.#wake?.notify();
	}

	async #keepOpen(): Promise<void> {
		this.#open = true;
		const { session, clock, random } = this.#context;
		const error = await keepOpen({ session, clock, random, signal: session.signal, run: this.#run });
		this.#open = false;
		const left = this.#queue;
		this.#queue = [];
		for (const operation of left) {
			if (operation.settled) continue;
			if (this.#refused) this.#calls.push(operation);
			else operation.reject(error ?? session.failure);
		}
	}

	readonly #run = async (_: Connection, signal: AbortSignal) => {
		const { transport, clock } = this.#context;
		const wake = new WakeUp();
		let ready = false;
		this.#wake = wake;
		const onFrame = (message: PipelineResponse | WireResults) => {
			ready = true;
			settleResults(message, this.#take);
		};
		try {
			const input = this.#frames(wake);
			await readFrames({ transport, method: wirePipeline, input, clock, signal, onFrame });
			throw endedEarly("Pipeline");
		} catch (thrown) {
			const error = thrown as HubClientError;
			// The hub refuses the stream before it looks at what came with it.
			this.#refused = !ready && !signal.aborted && NO_PIPELINE.has(error.reason);
			this.#takeBack(error);
			throw error;
		} finally {
			this.#wake = undefined;
			wake.end();
		}
	};

	async *#frames(wake: WakeUp): AsyncGenerator<OperationBatch, void, undefined> {
		while (await wake.wait(() => this.#queue.length > 0)) {
			const batch = this.#takeBatch();
			if (batch.length > 0) yield new OperationBatch(batch);
		}
	}

	#takeBatch(): PendingOperation[] {
		const queue = this.#queue;
		const batch: PendingOperation[] = [];
		let bytes = 0;
		let taken = 0;
		for (const operation of queue) {
			if (batch.length === MAX_BATCH_OPERATIONS) break;
			bytes += operation.range.byteLength;
			if (batch.length > 0 && bytes > MAX_BATCH_BYTES) break;
			taken++;
			if (operation.settled) continue;
			this.#pending.set(operation.id, operation);
			batch.push(operation);
		}
		this.#queue = taken === queue.length ? [] : queue.slice(taken);
		return batch;
	}

	readonly #take = (id: number) => {
		const operation = this.#pending.get(id);
		this.#pending.delete(id);
		return operation;
	};

	/** Puts what may be sent again back in front, and fails the rest. */
	#takeBack(cause: HubClientError): void {
		if (this.#pending.size === 0) return;
		const unanswered = [...this.#pending.values()];
		this.#pending.clear();
		this.#queue = unanswered.filter((operation) => this.#refused || operation.lost(cause)).concat(this.#queue);
	}
}

/** What a caller hears whom the hub gives no pipeline: one that is no plugin, or behind a proxy that cannot stream both ways. */
const NO_PIPELINE: ReadonlySet<string> = new Set(["CALLER_NOT_ALLOWED", "METHOD_UNKNOWN"]);
