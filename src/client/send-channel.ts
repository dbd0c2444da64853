import { create } from "@bufbuild/protobuf";
import {
	type SendStreamRequest,
	SendStreamRequestSchema,
	type SendStreamResponse,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { ClientContext } from "./client-context.ts";
import { oldestRemembered, outcomeUnknown } from "./emit-sink.ts";
import { HubClientError } from "./errors.ts";
import { keepOpen } from "./keep-open.ts";
import { endedEarly, readFrames } from "./read-frames.ts";
import { settleSends, type WireSendResults } from "./send-results.ts";
import type { SendEntry, SendSink } from "./send-sink.ts";
import { leanSendStream, SendBatch, setDurability, withTimeout } from "./send-wire.ts";
import type { Connection } from "./session-loop.ts";
import { WakeUp } from "./wake-up.ts";
import type { WireRange } from "./wire-range.ts";

/** Half of what the hub takes, so that it works on one frame while the next one is made. */
const MAX_BATCH_ENTRIES = 512;
/** Of messages; the last may go over. Leaves room for the other fields within the hub's 4 MiB a frame. */
const MAX_BATCH_BYTES = 2 * 1024 * 1024;

/**
 * Sends messages and requests over one `SendStream`; what waits when the transport can take more makes one frame.
 *
 * After a loss what was not sent yet waits for the next connection. What was sent and not answered is sent again under the
 * same id where that does no harm (durable or idempotent), and fails with CONNECTION_LOST otherwise.
 */
export class SendChannel implements SendSink {
	readonly #context: ClientContext;
	readonly #pending = new Map<number, SendEntry>();
	#queue: SendEntry[] = [];
	#cancels: number[] = [];
	#wake: WakeUp | undefined;
	#open = false;

	constructor(context: ClientContext) {
		this.#context = context;
	}

	push(entry: SendEntry): void {
		this.#queue.push(entry);
		if (!this.#open) void this.#keepOpen();
		this.#wake?.notify();
	}

	cancel(entry: SendEntry): void {
		if (entry.request === undefined || !this.#pending.delete(entry.entryId)) return;
		this.#cancels.push(entry.entryId);
		this.#wake?.notify();
	}

	async #keepOpen(): Promise<void> {
		this.#open = true;
		const { session, clock, random } = this.#context;
		const error = await keepOpen({ session, clock, random, signal: session.signal, run: this.#run });
		this.#open = false;
		const dropped = this.#queue;
		this.#queue = [];
		for (const entry of dropped) if (!entry.settled) entry.reject(error ?? session.failure);
	}

	readonly #run = async (connection: Connection, signal: AbortSignal) => {
		const { transport, clock } = this.#context;
		this.#rejectForgotten(connection);
		const wake = new WakeUp();
		this.#wake = wake;
		const onFrame = (frame: SendStreamResponse | WireSendResults) => settleSends(frame, this.#take);
		try {
			const input = this.#frames(connection, wake);
			await readFrames({ transport, method: leanSendStream, input, clock, signal, onFrame });
			throw endedEarly("SendStream");
		} finally {
			this.#wake = undefined;
			wake.end();
			this.#takeBack();
		}
	};

	async *#frames(connection: Connection, wake: WakeUp): AsyncGenerator<SendStreamRequest, void, undefined> {
		while (await wake.wait(() => this.#queue.length > 0 || this.#cancels.length > 0)) {
			const cancels = this.#cancels;
			this.#cancels = [];
			for (const entryId of cancels) {
				yield create(SendStreamRequestSchema, { frame: { case: "cancel", value: { entryId: BigInt(entryId) } } });
			}
			const entries = this.#takeBatch(connection);
			if (entries.length > 0) yield new SendBatch(entries);
		}
	}

	#takeBatch(connection: Connection): WireRange[] {
		const queue = this.#queue;
		const now = this.#context.clock.monotonic();
		const batch: WireRange[] = [];
		let bytes = 0;
		let taken = 0;
		for (const entry of queue) {
			if (batch.length === MAX_BATCH_ENTRIES || bytes > MAX_BATCH_BYTES) break;
			taken++;
			if (entry.settled) continue;
			entry.sentAt ??= now;
			const range = this.#rangeOf(entry, now, connection);
			bytes += range.byteLength;
			batch.push(range);
			this.#pending.set(entry.entryId, entry);
		}
		this.#queue = taken === queue.length ? [] : queue.slice(taken);
		return batch;
	}

	#rangeOf(entry: SendEntry, now: number, { info }: Connection): WireRange {
		const { range, request } = entry;
		if (request !== undefined) return withTimeout(range, Math.max(1, request.deadline - now));
		entry.durable ??= info.features?.durableMessages ?? false;
		setDurability(range, entry.durable);
		return range;
	}

	readonly #take = (entryId: number) => {
		const entry = this.#pending.get(entryId);
		this.#pending.delete(entryId);
		return entry;
	};

	/** Puts what may be sent again back in front, and fails the rest. */
	#takeBack(): void {
		if (this.#pending.size === 0) return;
		const repeatable: SendEntry[] = [];
		for (const entry of this.#pending.values()) {
			if (entry.settled) continue;
			if (entry.idempotent || entry.durable === true) repeatable.push(entry);
			else entry.reject(new HubClientError("CONNECTION_LOST", "the connection broke before the answer"));
		}
		this.#queue = repeatable.concat(this.#queue);
		this.#pending.clear();
		this.#cancels = [];
	}

	#rejectForgotten(connection: Connection): void {
		const oldest = oldestRemembered(connection, this.#context.clock);
		for (const entry of this.#queue) {
			if (!entry.settled && !entry.idempotent && entry.sentAt !== undefined && entry.sentAt < oldest) {
				entry.reject(outcomeUnknown());
			}
		}
	}
}
