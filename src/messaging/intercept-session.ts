import type { Clock } from "../clock/clock.ts";
import type { HubError } from "../hub-error.ts";
import type { Verdict } from "./inspector.ts";

/** A message to be looked at, on its way out. */
export interface OutgoingInspection {
	readonly id: number;
	/** `Message` in wire form. */
	readonly message: Uint8Array;
	readonly timeLeftMs: number;
}

/** What the stream of a session is told. */
export interface InterceptListener {
	wake(): void;
	ended(error: HubError): void;
}

interface Waiting {
	readonly message: Uint8Array;
	/** `Clock.monotonic()` milliseconds. */
	readonly deadline: number;
	readonly settle: (verdict: Verdict | undefined) => void;
}

const MAX_BATCH = 256;
const MAX_BATCH_BYTES = 256 * 1024;

/**
 * One interceptor's stream. What waits for a free place is bounded by its deadline and by how many messages may be looked at
 * in all.
 */
export class InterceptSession {
	/** Called once; `withdrawn`: the interceptor took its leave. */
	onClose: (withdrawn: boolean) => void = () => {};
	readonly #clock: Clock;
	#maxInFlight: number;
	#nextId = 1;
	/** In the order of their ids, which is that of their coming. */
	readonly #waiting = new Map<number, Waiting>();
	readonly #inFlight = new Map<number, Waiting>();
	#listener: InterceptListener | undefined;
	#closed = false;

	constructor(clock: Clock, maxInFlight: number) {
		this.#clock = clock;
		this.#maxInFlight = maxInFlight;
	}

	get closed(): boolean {
		return this.#closed;
	}

	listen(listener: InterceptListener): void {
		this.#listener = listener;
	}

	setMaxInFlight(maxInFlight: number): void {
		this.#maxInFlight = maxInFlight;
		this.#listener?.wake();
	}

	/** As `Inspector.inspect`. */
	inspect(message: Uint8Array, deadlineMs: number, settle: (verdict: Verdict | undefined) => void): () => void {
		const id = this.#nextId++;
		this.#waiting.set(id, { message, deadline: this.#clock.monotonic() + deadlineMs, settle });
		this.#listener?.wake();
		return () => {
			this.#waiting.delete(id);
			if (this.#inFlight.delete(id)) this.#listener?.wake();
		};
	}

	/** What may go out now; empty: nothing. */
	collect(): readonly OutgoingInspection[] {
		const batch: OutgoingInspection[] = [];
		let bytes = 0;
		const now = this.#clock.monotonic();
		for (const [id, waiting] of this.#waiting) {
			if (this.#inFlight.size >= this.#maxInFlight || batch.length >= MAX_BATCH || bytes >= MAX_BATCH_BYTES) break;
			const { message, deadline } = waiting;
			this.#waiting.delete(id);
			this.#inFlight.set(id, waiting);
			bytes += message.byteLength;
			batch.push({ id, message, timeLeftMs: Math.max(0, deadline - now) });
		}
		return batch;
	}

	/** Of no effect where the inspection is over. Undefined: the verdict is none. */
	answer(id: number, verdict: Verdict | undefined): void {
		const inspection = this.#inFlight.get(id);
		if (inspection === undefined) return;
		this.#inFlight.delete(id);
		inspection.settle(verdict);
		if (this.#waiting.size > 0) this.#listener?.wake();
	}

	/** Another has the place: ends the stream. */
	end(error: HubError): void {
		this.#listener?.ended(error);
		this.close(true);
	}

	/** The stream has ended. What has no verdict gets none. */
	close(withdrawn: boolean): void {
		if (this.#closed) return;
		this.#closed = true;
		this.onClose(withdrawn);
		for (const inspection of [...this.#inFlight.values(), ...this.#waiting.values()]) inspection.settle(undefined);
		this.#inFlight.clear();
		this.#waiting.clear();
	}
}
