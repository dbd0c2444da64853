import { create } from "@bufbuild/protobuf";
import {
	Durability,
	type SendEntry as SendEntryMessage,
	type SendResult,
	type SendStreamRequest,
	SendStreamRequestSchema,
	type SendStreamResponse,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { ClientContext } from "./client-context.ts";
import { toDuration } from "./durations.ts";
import { oldestRemembered, outcomeUnknown } from "./emit-sink.ts";
import { fromEntryError, HubClientError } from "./errors.ts";
import { keepOpen } from "./keep-open.ts";
import { payloadSize } from "./payload.ts";
import { endedEarly, readFrames } from "./read-frames.ts";
import type { SendEntry, SendSink } from "./send-sink.ts";
import { leanSendStream } from "./send-wire.ts";
import type { Connection } from "./session-loop.ts";
import { WakeUp } from "./wake-up.ts";

/** Half of what the hub takes, so that it works on one frame while the next one is made. */
const MAX_BATCH_ENTRIES = 512;
/** Of payloads; leaves room for the other fields within the hub's 4 MiB a frame. */
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
	readonly #ids = new Map<SendEntry, number>();
	#queue: SendEntry[] = [];
	#cancels: number[] = [];
	#wake: WakeUp | undefined;
	#nextId = 1;
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
		const id = this.#ids.get(entry);
		if (id === undefined) return;
		this.#forget(id, entry);
		this.#cancels.push(id);
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
		const onFrame = ({ frame }: SendStreamResponse) => {
			if (frame.case === "results") for (const result of frame.value.results) this.#settle(result);
		};
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
			if (entries.length > 0) yield create(SendStreamRequestSchema, { frame: { case: "batch", value: { entries } } });
		}
	}

	#takeBatch(connection: Connection): SendEntryMessage[] {
		const queue = this.#queue;
		const now = this.#context.clock.monotonic();
		const batch: SendEntryMessage[] = [];
		let bytes = 0;
		let taken = 0;
		for (const entry of queue) {
			if (batch.length === MAX_BATCH_ENTRIES || bytes > MAX_BATCH_BYTES) break;
			taken++;
			if (entry.settled) continue;
			entry.sentAt ??= now;
			bytes += payloadSize(entry.message.payload);
			batch.push(this.#message(entry, now, connection));
		}
		this.#queue = taken === queue.length ? [] : queue.slice(taken);
		return batch;
	}

	#message(entry: SendEntry, now: number, { info }: Connection): SendEntryMessage {
		const entryId = this.#nextId++;
		entry.durable ??= entry.request === undefined && (info.features?.durableMessages ?? false);
		const message: SendEntryMessage = {
			$typeName: "qirvo.hub.v1.SendEntry",
			entryId: BigInt(entryId),
			to: entry.to,
			message: entry.message,
			durability: entry.durable ? Durability.DURABLE : Durability.TRANSIENT,
			requestTimeout: entry.request && toDuration(Math.max(1, entry.request.deadline - now)),
		};
		this.#pending.set(entryId, entry);
		if (entry.request) this.#ids.set(entry, entryId);
		return message;
	}

	#settle({ entryId: id, outcome }: SendResult): void {
		const entryId = Number(id);
		const entry = this.#pending.get(entryId);
		if (entry === undefined) return;
		this.#forget(entryId, entry);
		if (outcome.case === "accepted") entry.accepted(outcome.value);
		else if (outcome.case === "reply") entry.answered(outcome.value);
		else if (outcome.case === "error") entry.reject(fromEntryError(outcome.value));
		else entry.reject(new HubClientError("UNKNOWN", "the hub did not say what became of the message"));
	}

	#forget(id: number, entry: SendEntry): void {
		this.#pending.delete(id);
		if (entry.request) this.#ids.delete(entry);
	}

	/** Puts what may be sent again back in front, and fails the rest. */
	#takeBack(): void {
		if (this.#pending.size === 0) return;
		const repeatable: SendEntry[] = [];
		for (const entry of this.#pending.values()) {
			if (entry.settled) continue;
			if (entry.message.idempotent || entry.durable === true) repeatable.push(entry);
			else entry.reject(new HubClientError("CONNECTION_LOST", "the connection broke before the answer"));
		}
		this.#queue = repeatable.concat(this.#queue);
		this.#pending.clear();
		this.#ids.clear();
		this.#cancels = [];
	}

	#rejectForgotten(connection: Connection): void {
		const oldest = oldestRemembered(connection, this.#context.clock);
		for (const entry of this.#queue) {
			if (!entry.settled && !entry.message.idempotent && entry.sentAt !== undefined && entry.sentAt < oldest) {
				entry.reject(outcomeUnknown());
			}
		}
	}
}
