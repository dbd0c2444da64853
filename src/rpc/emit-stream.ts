import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import type { EmitExceptionSchema, EmitStreamResponseSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import type { Clock, Timer } from "../clock/clock.ts";
import type { EmitPolicy, EventIntake, IntakeBatch, IntakeRecord } from "../events/event-intake.ts";
import type { AppendOutcome, EventLog } from "../events/event-log.ts";
import type { FlightBudget } from "../events/flight-budget.ts";
import { type Ending, HEARTBEAT_MS } from "../events/subscription.ts";
import { HubError } from "../hub-error.ts";
import { StorageError } from "../state/kv-store.ts";
import { Mailbox } from "../streams/mailbox.ts";
import { entryErrorOf } from "./entry-error.ts";

type Frame = MessageInitShape<typeof EmitStreamResponseSchema>;
type Exception = MessageInitShape<typeof EmitExceptionSchema>;

/** Batches of one stream that are read and whose acknowledgement the peer has not taken. */
const MAX_BATCHES = 256;

export interface EmitStreamOptions {
	readonly id: string;
	readonly requestId: () => string;
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
	readonly #options: EmitStreamOptions;
	readonly #frames = new Mailbox<Frame | "nudge">({ maxItems: MAX_BATCHES + 8 });
	#room: (() => void) | undefined;
	#unanswered = 0;
	#last: Promise<void> = Promise.resolve();
	#ended: { readonly error: unknown; readonly ending: Ending } | undefined;
	#failure: unknown;
	#frameAt = 0;
	#timer: Timer | undefined;

	constructor(options: EmitStreamOptions) {
		this.#options = options;
	}

	/** Ends it: the peer is told with a last frame where `ending` has one. What is not acknowledged may be stored. */
	end(error: unknown, ending: Ending): void {
		if (this.#ended !== undefined) return;
		this.#ended = { error, ending };
		// A hub that stops still acknowledges what it has stored.
		if (ending === "draining") void this.#last.then(() => this.#frames.close());
		else this.#frames.close(error);
		this.#room?.();
	}

	/** The frames down, `ready` first. One reader. */
	async *run(requests: AsyncIterable<Uint8Array>): AsyncGenerator<Frame, void, undefined> {
		const { id } = this.#options;
		try {
			this.#touch();
			yield { frame: { case: "ready", value: { id, heartbeatInterval: durationFromMs(HEARTBEAT_MS) } } };
			void this.#read(requests);
			this.#armHeartbeat();
			while (await this.#frames.wait()) {
				for (const frame of this.#frames.take()) {
					if (this.#ended !== undefined && this.#ended.ending !== "draining") throw this.#ended.error;
					if (frame === "nudge") {
						if (this.#options.clock.monotonic() - this.#frameAt < HEARTBEAT_MS) continue;
						this.#touch();
						yield { frame: { case: "heartbeat", value: {} } };
						continue;
					}
					this.#touch();
					yield frame;
					this.#unanswered--;
					this.#room?.();
				}
			}
			const failure = this.#ended?.error ?? this.#failure;
			if (failure !== undefined) throw failure;
		} catch (error) {
			const last = this.#lastFrame();
			if (last !== undefined) yield last;
			throw this.#ended?.error ?? error;
		} finally {
			this.#timer?.cancel();
			this.end(new HubError("CANCELLED", "the stream has ended"), "silent");
		}
	}

	async #read(requests: AsyncIterable<Uint8Array>): Promise<void> {
		try {
			for await (const request of requests) {
				await this.#waitForRoom(request.byteLength);
				if (this.#ended !== undefined) return;
				this.#publish(this.#options.intake.readBatch(request, this.#options.policy));
			}
		} catch (error) {
			// What was accepted before is still acknowledged.
			this.#failure = error;
		}
		await this.#last;
		this.#frames.close();
	}

	async #waitForRoom(bytes: number): Promise<void> {
		while (this.#unanswered >= MAX_BATCHES && this.#ended === undefined) {
			await new Promise<void>((resolve) => {
				this.#room = resolve;
			});
			this.#room = undefined;
		}
		const { budget, principal } = this.#options;
		while (!budget.hasRoom(principal, bytes) && this.#ended === undefined) {
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
			this.end(fault, "silent");
			return;
		}
		this.#frames.push(this.#acknowledge(batch, outcomes, fault));
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
			const value = entryErrorOf(outcome, this.#options.requestId());
			exceptions.push({ index, outcome: { case: "error", value } });
		}
		const { epoch } = this.#options.events;
		const { batchId } = batch;
		const value = { batchId, epoch, firstSequence: BigInt(firstSequence), stored, exceptions };
		return { frame: { case: "acknowledgement", value } };
	}

	#lastFrame(): Frame | undefined {
		const { error, ending } = this.#ended ?? {};
		if (ending === "draining") return { frame: { case: "draining", value: {} } };
		if (ending !== "revoked" || !(error instanceof HubError)) return undefined;
		return { frame: { case: "revoked", value: { reason: error.reason, message: error.message } } };
	}

	#touch(): void {
		this.#frameAt = this.#options.clock.monotonic();
	}

	#armHeartbeat(): void {
		const due = this.#frameAt + HEARTBEAT_MS - this.#options.clock.monotonic();
		this.#timer = this.#options.clock.after(Math.max(due, 1), () => {
			const isIdle = this.#options.clock.monotonic() - this.#frameAt >= HEARTBEAT_MS;
			if (isIdle && this.#frames.size === 0) this.#frames.push("nudge");
			this.#armHeartbeat();
		});
	}
}

function isAppended(outcome: unknown): outcome is Exclude<AppendOutcome, HubError> {
	return typeof outcome === "object" && outcome !== null && "sequence" in outcome;
}
