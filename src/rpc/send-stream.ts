import { SendStreamResponseSchema } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { Clock } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import type { ReplyOutcome, SentRequest } from "../messaging/pending-replies.ts";
import type { Call, Encoded } from "./call.ts";
import { encodeEntryError } from "./entry-error.ts";
import type { MessageDispatch } from "./message-dispatch.ts";
import { durabilityOf, pluginOf, replyDeadline, requireTransient } from "./message-intake.ts";
import { encodeFrame, SEND_FRAMES } from "./messaging-frames.ts";
import { PulledStream } from "./pulled-stream.ts";
import { breaksFrame, readSendFrame, type SendView } from "./send-frames.ts";
import { encodeReply, SendResults } from "./send-results.ts";
import type { StreamRegistry } from "./stream-ending.ts";
import { readyFrame } from "./stream-frames.ts";

export interface SendStreamDeps {
	readonly clock: Clock;
	readonly dispatch: MessageDispatch;
	readonly streams: StreamRegistry;
}

/**
 * Entries without a result that was taken, from which on no batch is admitted; one batch may come on top. The next is held
 * meanwhile, and cancellations behind it are heard; behind the one after that, nothing is read.
 */
const MAX_UNANSWERED = 4096;

/**
 * Entries after which the event loop has a turn where some are being stored. Else a sender whose bytes are all here is read to
 * its end first, and meanwhile nobody hears that a commit is stored, and no other begins.
 */
const TURN_ENTRIES = 512;

/** Bytes of messages that are being stored, above which the stream is not read on; one batch may come on top. */
const MAX_STORING_BYTES = 8 * 1024 * 1024;

/** Bytes of results not taken, above which the caller counts as too slow to go on. */
const MAX_RESULT_BYTES = 16 * 1024 * 1024;

/** A batch that waits until there is room. */
interface HeldBatch {
	readonly entries: readonly SendView[];
	/** Requests of it that were given up while it waited, and answered so. */
	readonly cancelled: Set<number | bigint>;
	/** Settles once it is admitted, or the stream has ended. */
	readonly admitted: Promise<void>;
}

/** One `SendStream` call. Each entry passes the same intake as a unary call, and fails alone. */
export class SendStream {
	/** What goes down. */
	readonly responses: PulledStream<Encoded>;
	readonly #deps: SendStreamDeps;
	readonly #call: Call;
	readonly #results = new SendResults();
	/** Requests that wait for their reply. */
	readonly #pending = new Map<number | bigint, SentRequest>();
	/** Messages that are on their way to where they are accepted. */
	#storing = 0;
	#storingBytes = 0;
	#held: HeldBatch | undefined;
	#ready = false;
	#inputEnded = false;

	/** Refuses callers that are not plugins, and those whose credential no longer stands. */
	constructor(deps: SendStreamDeps, requests: AsyncIterable<Uint8Array>, call: Call) {
		this.#deps = deps;
		this.#call = call;
		pluginOf(call.caller);
		this.responses = new PulledStream({
			clock: deps.clock,
			call,
			// Each entry is judged when it comes.
			streams: deps.streams,
			frames: SEND_FRAMES,
			produce: () => this.#produce(),
			onEnd: () => this.#release(),
		});
		this.#read(requests).catch((error: unknown) => this.responses.fail(error));
	}

	async #read(requests: AsyncIterable<Uint8Array>): Promise<void> {
		let inTurn = 0;
		for await (const frame of requests) {
			if (this.responses.ended) return;
			const read = readSendFrame(frame);
			if (read.kind === "cancel") {
				this.#cancel(read.entryId);
				continue;
			}
			if (this.#held !== undefined) await this.#held.admitted;
			if (this.#isFull) this.#hold(read.entries);
			else this.#admit(read.entries);
			inTurn += read.entries.length;
			if (inTurn < TURN_ENTRIES || this.#storing === 0) continue;
			inTurn = 0;
			await nextTurn();
		}
		await this.#held?.admitted;
		this.#inputEnded = true;
		this.#finishWhenDone();
	}

	get #isFull(): boolean {
		const unanswered = this.#pending.size + this.#results.size + this.#storing;
		return unanswered >= MAX_UNANSWERED || this.#storingBytes >= MAX_STORING_BYTES;
	}

	#hold(entries: readonly SendView[]): void {
		const cancelled = new Set<number | bigint>();
		const admitted = this.#admitLater(entries, cancelled).catch((error: unknown) => this.responses.fail(error));
		this.#held = { entries, cancelled, admitted };
	}

	async #admitLater(entries: readonly SendView[], cancelled: ReadonlySet<number | bigint>): Promise<void> {
		while (this.#isFull && !this.responses.ended) await this.responses.pulled();
		this.#held = undefined;
		this.#admit(entries, cancelled);
	}

	#admit(entries: readonly SendView[], cancelled?: ReadonlySet<number | bigint>): void {
		for (let index = 0; index < entries.length; index++) {
			if (this.responses.ended) return;
			const entry = entries[index]!;
			if (!cancelled?.has(entry.entryId)) this.#takeEntry(entry, index);
		}
		this.responses.wake();
	}

	#takeEntry(entry: SendView, index: number): void {
		const { entryId } = entry;
		const prefix = prefixOf(index);
		if (this.#pending.has(entryId)) {
			throw HubError.field(`${prefix}entry_id`, `${entryId} is the id of an entry not yet answered`);
		}
		try {
			if (entry.timeoutMs === undefined) this.#send(entry, prefix);
			else this.#request(entry, prefix);
		} catch (error) {
			if (breaksFrame(error)) throw error;
			this.#results.add(entryId, "error", this.#encode(error));
		}
	}

	#send(entry: SendView, prefix: string): void {
		const durability = durabilityOf(entry.durability, `${prefix}durability`);
		const { entryId } = entry;
		const bytes = entry.message?.byteLength ?? 0;
		// It may be told before this returns.
		this.#storing++;
		this.#storingBytes += bytes;
		try {
			this.#deps.dispatch.send(this.#call, entry, prefix, durability, (accepted, error) => {
				if (accepted === undefined) this.#results.add(entryId, "error", this.#encode(error));
				else this.#results.addAccepted(entryId, accepted);
				this.#stored(bytes);
				this.responses.wake();
			});
		} catch (error) {
			this.#stored(bytes);
			throw error;
		}
	}

	#stored(bytes: number): void {
		this.#storing--;
		this.#storingBytes -= bytes;
		this.#finishWhenDone();
	}

	#request(entry: SendView, prefix: string): void {
		const { clock, dispatch } = this.#deps;
		const { entryId } = entry;
		requireTransient(entry.durability, `${prefix}durability`);
		const deadline = replyDeadline(clock.monotonic(), entry.timeoutMs, this.#call, `${prefix}request_timeout`);
		const sent = dispatch.request(this.#call, entry, prefix, deadline, (id, outcome) =>
			this.#answered(entryId, id, outcome),
		);
		this.#pending.set(entryId, sent);
	}

	#answered(entryId: number | bigint, id: string, outcome: ReplyOutcome): void {
		this.#pending.delete(entryId);
		if (outcome.kind === "reply") {
			this.#results.add(entryId, "reply", encodeReply(id, outcome.content, outcome.source));
		} else {
			this.#results.add(entryId, "error", this.#encode(outcome.error));
		}
		if (this.#results.bytes > MAX_RESULT_BYTES) this.responses.fail(tooSlow());
		else this.responses.wake();
		this.#finishWhenDone();
	}

	/** An entry that was answered meanwhile, or never was a request, is nothing to cancel. */
	#cancel(entryId: number | bigint): void {
		const pending = this.#pending.get(entryId);
		if (pending === undefined) {
			if (!this.#cancelHeld(entryId)) return;
		} else {
			this.#pending.delete(entryId);
			pending.cancel();
		}
		const error = new HubError("CANCELLED", "the caller gave the request up");
		this.#results.add(entryId, "error", this.#encode(error));
		this.responses.wake();
		this.#finishWhenDone();
	}

	/** Whether the held batch has a request of this id, which then is not made. */
	#cancelHeld(entryId: number | bigint): boolean {
		if (this.#held === undefined || this.#held.cancelled.has(entryId)) return false;
		const { entries, cancelled } = this.#held;
		if (!entries.some((entry) => entry.entryId === entryId && entry.timeoutMs !== undefined)) return false;
		cancelled.add(entryId);
		return true;
	}

	#encode(error: unknown): Uint8Array {
		return encodeEntryError(error, this.#call.requestId);
	}

	#produce(): Encoded | undefined {
		if (this.#ready) return this.#results.take();
		this.#ready = true;
		return encodeFrame(SendStreamResponseSchema, { frame: readyFrame(this.#call.requestId) });
	}

	#finishWhenDone(): void {
		if (this.#inputEnded && this.#pending.size === 0 && this.#storing === 0) this.responses.finish();
	}

	/** Nobody waits for the replies any more. */
	#release(): void {
		for (const pending of this.#pending.values()) pending.cancel();
		this.#pending.clear();
	}
}

/** By index; as many as a batch may have. */
const prefixes: string[] = [];

/** The path of an entry, made once: it is needed for every message, and told for few. */
function prefixOf(index: number): string {
	prefixes[index] ??= `batch.entries[${index}].`;
	return prefixes[index];
}

function nextTurn(): Promise<void> {
	return new Promise((resolve) => void setImmediate(resolve));
}

function tooSlow(): HubError {
	return new HubError("SLOW_CONSUMER", "the caller reads its results too slowly", {
		metadata: { limit: String(MAX_RESULT_BYTES) },
	});
}
