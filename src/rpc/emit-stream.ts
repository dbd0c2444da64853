import type { MessageInitShape } from "@bufbuild/protobuf";
import type { EmitExceptionSchema, EmitStreamResponseSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import type { Clock } from "../clock/clock.ts";
import type { EmitPolicy, EventIntake, IntakeBatch, IntakeRecord } from "../events/event-intake.ts";
import type { AppendOutcome, EventLog } from "../events/event-log.ts";
import type { FlightBudget } from "../events/flight-budget.ts";
import { HubError } from "../hub-error.ts";
import { StorageError } from "../state/kv-store.ts";
import type { Call } from "./call.ts";
import { entryErrorOf } from "./entry-error.ts";
import { PulledStream } from "./pulled-stream.ts";
import type { StreamRegistry } from "./stream-ending.ts";
import { readyFrame, streamFrames } from "./stream-frames.ts";

type Frame = MessageInitShape<typeof EmitStreamResponseSchema>;
type Exception = MessageInitShape<typeof EmitExceptionSchema>;

/** Batches of one stream that are read and whose acknowledgement the peer has not taken. */
const MAX_BATCHES = 256;

export interface EmitStreamOptions {
	readonly id: string;
	readonly call: Call;
	readonly streams: StreamRegistry;
	readonly principal: string;
	readonly intake: EventIntake;
	readonly policy: EmitPolicy;
	readonly events: EventLog;
	readonly budget: FlightBudget;
	readonly clock: Clock;
}

/**
 * One `EmitStream`: reads batches and hands them to the log without waiting for those before, and acknowledges them in
 * order. Where too much is in flight, or the peer does not take its acknowledgements, it stops reading.
 */
export class EmitStream {
	/** What goes down. */
	readonly responses: PulledStream<Frame>;
	readonly #options: EmitStreamOptions;
	/** Acknowledgements that the peer has not taken; at most `MAX_BATCHES`. */
	#answers: Frame[] = [];
	#ready = false;
	#stopped = false;
	#room: (() => void) | undefined;
	#unanswered = 0;
	#last: Promise<void> = Promise.resolve();

	constructor(options: EmitStreamOptions, requests: AsyncIterable<Uint8Array>) {
		this.#options = options;
		this.responses = new PulledStream({
			clock: options.clock,
			call: options.call,
			// Each event is checked when it comes; what is registered here ends with the credential or the plugin.
			streams: options.streams,
			frames: streamFrames<Frame>((frame) => ({ frame })),
			produce: () => this.#produce(),
			// A hub that stops still acknowledges what it has stored.
			onDrain: (error) => {
				this.#stop();
				void this.#last.then(() => this.responses.finish(error));
			},
			onEnd: () => this.#stop(),
		});
		void this.#read(requests);
	}

	#produce(): Frame | undefined {
		if (!this.#ready) {
			this.#ready = true;
			return { frame: readyFrame(this.#options.id) };
		}
		const answer = this.#answers.shift();
		if (answer !== undefined) this.#unanswered--;
		return answer;
	}

	#stop(): void {
		this.#stopped = true;
		this.#room?.();
	}

	/** Never rejects. */
	async #read(requests: AsyncIterable<Uint8Array>): Promise<void> {
		let failure: unknown;
		try {
			for await (const request of requests) {
				await this.#waitForRoom(request.byteLength);
				if (this.#stopped) return;
				this.#publish(this.#options.intake.readBatch(request, this.#options.policy));
			}
		} catch (error) {
			failure = error;
		}
		if (this.#stopped) return;
		// What was accepted before is still acknowledged.
		await this.#last;
		this.responses.finish(failure);
	}

	async #waitForRoom(bytes: number): Promise<void> {
		while (this.#unanswered >= MAX_BATCHES && !this.#stopped) await this.responses.pulled();
		const { budget, principal } = this.#options;
		while (!budget.hasRoom(principal, bytes) && !this.#stopped) {
			await Promise.race([
				budget.room(principal),
				new Promise<void>((resolve) => {
					this.#room = resolve;
				}),
			]);
			this.#room = undefined;
		}
	}

	#publish(batch: IntakeBatch): void {
		const { budget, principal, events } = this.#options;
		const records = batch.entries.filter((entry): entry is IntakeRecord => !(entry instanceof HubError));
		const appended = records.length === 0 ? Promise.resolve([]) : events.append(records);
		this.#unanswered++;
		const release = budget.take(principal, batch.bytes);
		const before = this.#last;
		this.#last = this.#answer(batch, appended, before, release);
	}

	/** Never rejects. */
	async #answer(
		batch: IntakeBatch,
		appended: Promise<readonly AppendOutcome[]>,
		before: Promise<void>,
		release: () => void,
	): Promise<void> {
		let outcomes: readonly AppendOutcome[] | undefined;
		let fault: unknown;
		try {
			outcomes = await appended;
		} catch (error) {
			fault = error;
		}
		release();
		await before;
		if (fault !== undefined && !(fault instanceof HubError || fault instanceof StorageError)) {
			this.responses.fail(fault);
			return;
		}
		this.#answers.push(this.#acknowledge(batch, outcomes, fault));
		this.responses.wake();
	}

	#acknowledge(batch: IntakeBatch, outcomes: readonly AppendOutcome[] | undefined, fault: unknown): Frame {
		const exceptions: Exception[] = [];
		let firstSequence = 0;
		let stored = 0;
		let next = 0;
		for (const [index, entry] of batch.entries.entries()) {
			const outcome = entry instanceof HubError ? entry : (outcomes?.[next++] ?? fault);
			if (isAppended(outcome)) {
				if (outcome.duplicate) {
					exceptions.push({ index, outcome: { case: "duplicateOf", value: BigInt(outcome.sequence) } });
					continue;
				}
				if (stored++ === 0) firstSequence = outcome.sequence;
				continue;
			}
			const value = entryErrorOf(outcome, this.#options.call.requestId);
			exceptions.push({ index, outcome: { case: "error", value } });
		}
		const { epoch } = this.#options.events;
		const { batchId } = batch;
		const value = { batchId, epoch, firstSequence: BigInt(firstSequence), stored, exceptions };
		return { frame: { case: "acknowledgement", value } };
	}
}

function isAppended(outcome: unknown): outcome is Exclude<AppendOutcome, HubError> {
	return typeof outcome === "object" && outcome !== null && "sequence" in outcome;
}
