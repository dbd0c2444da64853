import { Code } from "@connectrpc/connect";
import type { RequestResponse } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { Clock, Timer } from "../clock/clock.ts";
import type { Admission, Entrant } from "./admission.ts";
import { cancelled, HubClientError } from "./errors.ts";
import type { Accepted, SendEntry, SendSink } from "./send-sink.ts";
import type { WireRange } from "./wire-range.ts";

/** What a message and a request differ in. */
export interface Fate<R> {
	readonly durable?: boolean | undefined;
	readonly timeoutMs?: number | undefined;
	readonly accepted?: (response: Accepted) => R;
	readonly answered?: (response: RequestResponse) => R;
}

export interface SubmissionContent<R> {
	readonly entryId: number;
	/** From `encodeSend`. */
	readonly range: WireRange;
	readonly idempotent: boolean;
	readonly fate: Fate<R>;
	readonly signal: AbortSignal | undefined;
}

/** The way that all submissions of one client go. */
export interface SubmissionWay {
	readonly clock: Clock;
	readonly admission: Admission;
	readonly sink: SendSink;
}

/** About what a message takes beside its bytes. */
const OVERHEAD_BYTES = 256;

/** One message or request, from when it is asked for until its caller has an answer or no longer waits. */
export class Submission<R> implements SendEntry, Entrant {
	readonly range: WireRange;
	readonly entryId: number;
	readonly idempotent: boolean;
	readonly request: { readonly deadline: number } | undefined;
	durable: boolean | undefined;
	sentAt: number | undefined = undefined;
	settled = false;
	readonly #way: SubmissionWay;
	readonly #fate: Fate<R>;
	readonly #signal: AbortSignal | undefined;
	readonly #resolve: (value: R) => void;
	readonly #reject: (error: unknown) => void;
	#entered = false;
	#timer: Timer | undefined;
	#abandon: (() => void) | undefined;

	constructor(
		way: SubmissionWay,
		{ entryId, range, idempotent, fate, signal }: SubmissionContent<R>,
		resolve: (value: R) => void,
		reject: (error: unknown) => void,
	) {
		const { clock } = way;
		this.#way = way;
		this.#fate = fate;
		this.#signal = signal;
		this.#resolve = resolve;
		this.#reject = reject;
		this.range = range;
		this.entryId = entryId;
		this.idempotent = idempotent;
		this.durable = fate.durable;
		const { timeoutMs } = fate;
		if (timeoutMs !== undefined) {
			this.request = { deadline: clock.monotonic() + timeoutMs };
			this.#timer = clock.after(timeoutMs, () => this.#giveUp(deadlineExceeded(timeoutMs)));
		}
		if (signal !== undefined) {
			this.#abandon = () => this.#giveUp(cancelled(signal));
			signal.addEventListener("abort", this.#abandon, { once: true });
		}
	}

	get bytes(): number {
		return OVERHEAD_BYTES + this.range.byteLength;
	}

	/** Takes its place, as soon as there is one. */
	start(): void {
		try {
			this.#way.admission.enter(this);
		} catch (error) {
			this.reject(error);
		}
	}

	enter(): boolean {
		if (this.settled) return false;
		this.#entered = true;
		this.#way.sink.push(this);
		return true;
	}

	accepted(response: Accepted): void {
		if (!this.#settle()) return;
		const { accepted } = this.#fate;
		if (accepted) this.#resolve(accepted(response));
		else this.#reject(unexpected());
	}

	answered(response: RequestResponse): void {
		if (!this.#settle()) return;
		const { answered } = this.#fate;
		try {
			if (answered) this.#resolve(answered(response));
			else this.#reject(unexpected());
		} catch (error) {
			this.#reject(error);
		}
	}

	reject(error: unknown): void {
		if (this.#settle()) this.#reject(error);
	}

	#giveUp(error: HubClientError): void {
		this.reject(error);
		this.#way.sink.cancel(this);
	}

	#settle(): boolean {
		if (this.settled) return false;
		this.settled = true;
		if (this.#entered) this.#way.admission.leave(this.bytes);
		this.#timer?.cancel();
		if (this.#abandon !== undefined) this.#signal?.removeEventListener("abort", this.#abandon);
		return true;
	}
}

function deadlineExceeded(timeoutMs: number): HubClientError {
	return new HubClientError("DEADLINE_EXCEEDED", `no reply within ${timeoutMs} ms`, { code: Code.DeadlineExceeded });
}

function unexpected(): HubClientError {
	return new HubClientError("UNKNOWN", "the hub gave another kind of answer than was asked for", {
		code: Code.Internal,
	});
}
