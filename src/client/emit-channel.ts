import type { EmitAcknowledgement, EmitStreamResponse } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { Mailbox } from "../streams/mailbox.ts";
import type { ClientContext } from "./client-context.ts";
import { type EmitEntry, type EmitSink, isForgotten, oldestRemembered, outcomeUnknown } from "./emit-sink.ts";
import { EncodedBatch, encodedEmitStream } from "./encoded-batch.ts";
import { fromEntryError, HubClientError } from "./errors.ts";
import type { EncodedEvent } from "./event-encoder.ts";
import { keepOpen } from "./keep-open.ts";
import { endedEarly, readFrames } from "./read-frames.ts";
import type { Connection } from "./session-loop.ts";

/** Batches that are sent and not acknowledged yet. Events that come while so many are collect for the next one. */
const MAX_BATCHES_IN_FLIGHT = 4;
const MAX_BATCH_EVENTS = 1_000;
/** A larger event makes a batch of its own. The hub takes 4 MiB a frame. */
const MAX_BATCH_BYTES = 2 * 1024 * 1024;
/**
 * Publishes over one `EmitStream`, in micro-batches: what is queued while batches are in flight makes the next one.
 *
 * After a loss every event that was not acknowledged is sent again, in the same order and under the same id, so that the
 * hub stores it once. An event whose id the hub may have forgotten by then fails with OUTCOME_UNKNOWN instead.
 */
export class EmitChannel implements EmitSink {
	readonly #context: ClientContext;
	readonly #inFlight = new Map<bigint, EmitEntry[]>();
	#queue: EmitEntry[] = [];
	#up: Mailbox<EncodedBatch> | undefined;
	#nextBatch = 1n;
	#scheduled = false;
	#open = false;

	constructor(context: ClientContext) {
		this.#context = context;
	}

	/** Entries are bounded by the `Admission` that let them in. */
	push(entry: EmitEntry): void {
		this.#queue.push(entry);
		if (!this.#open) void this.#keepOpen();
		if (this.#scheduled || this.#up === undefined) return;
		this.#scheduled = true;
		queueMicrotask(this.#flush);
	}

	readonly #flush = () => {
		this.#scheduled = false;
		while (this.#up && this.#queue.length > 0 && this.#inFlight.size < MAX_BATCHES_IN_FLIGHT) {
			const batch = this.#takeBatch();
			if (batch.length === 0) return;
			const batchId = this.#nextBatch++;
			this.#inFlight.set(batchId, batch);
			this.#up.push(new EncodedBatch(batchId, batch.map(eventOf)));
		}
	};

	#takeBatch(): EmitEntry[] {
		const queue = this.#queue;
		const now = this.#context.clock.monotonic();
		const batch: EmitEntry[] = [];
		let bytes = 0;
		let taken = 0;
		for (const entry of queue) {
			const { byteLength } = entry.event;
			if (batch.length === MAX_BATCH_EVENTS || (batch.length > 0 && bytes + byteLength > MAX_BATCH_BYTES)) break;
			taken++;
			if (entry.abandoned) continue;
			entry.sentAt ??= now;
			bytes += byteLength;
			batch.push(entry);
		}
		this.#queue = taken === queue.length ? [] : queue.slice(taken);
		return batch;
	}

	async #keepOpen(): Promise<void> {
		this.#open = true;
		const { session, clock, random } = this.#context;
		const error = await keepOpen({ session, clock, random, signal: session.signal, run: this.#run });
		this.#open = false;
		this.#takeBack();
		const dropped = this.#queue;
		this.#queue = [];
		const reason = error ?? session.failure;
		for (const entry of dropped) entry.reject(reason);
	}

	readonly #run = async (connection: Connection, signal: AbortSignal) => {
		const { transport, clock } = this.#context;
		const up = new Mailbox<EncodedBatch>({ maxItems: MAX_BATCHES_IN_FLIGHT });
		this.#takeBack();
		this.#rejectForgotten(connection);
		const onFrame = ({ frame }: EmitStreamResponse) => {
			if (frame.case === "acknowledgement") this.#acknowledge(frame.value);
		};
		this.#up = up;
		this.#flush();
		try {
			await readFrames({ transport, method: encodedEmitStream, input: up, clock, signal, onFrame });
			throw endedEarly("EmitStream");
		} finally {
			this.#up = undefined;
			up.close();
		}
	};

	/** Puts what was not acknowledged back in front. */
	#takeBack(): void {
		if (this.#inFlight.size === 0) return;
		this.#queue = [...this.#inFlight.values()].flat().concat(this.#queue);
		this.#inFlight.clear();
	}

	#rejectForgotten(connection: Connection): void {
		const oldest = oldestRemembered(connection, this.#context.clock);
		if (!this.#queue.some((entry) => isForgotten(entry, oldest))) return;
		this.#queue = this.#queue.filter((entry) => {
			const forgotten = isForgotten(entry, oldest);
			if (forgotten) entry.reject(outcomeUnknown());
			return !forgotten;
		});
	}

	#acknowledge({ batchId, epoch, firstSequence, exceptions }: EmitAcknowledgement): void {
		const batch = this.#inFlight.get(batchId);
		if (batch === undefined) return;
		this.#inFlight.delete(batchId);
		let sequence = firstSequence;
		let exception = 0;
		for (let index = 0; index < batch.length; index++) {
			const entry = batch[index]!;
			if (exceptions[exception]?.index !== index) {
				entry.resolve({ epoch, sequence: sequence++ }, false);
				continue;
			}
			const { outcome } = exceptions[exception++]!;
			if (outcome.case === "duplicateOf") entry.resolve({ epoch, sequence: outcome.value }, true);
			else if (outcome.case === "error") entry.reject(fromEntryError(outcome.value));
			else entry.reject(new HubClientError("UNKNOWN", "the hub did not say why the event was refused"));
		}
		this.#flush();
	}
}

const eventOf = (entry: EmitEntry): EncodedEvent => entry.event;
