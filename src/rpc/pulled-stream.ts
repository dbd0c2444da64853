import type { Clock, Timer } from "../clock/clock.ts";
import { HubError, type Reason } from "../hub-error.ts";
import type { Encoded } from "./call.ts";

/** How often a stream says that it is alive while it has nothing else to say. */
export const HEARTBEAT_MS = 15_000;

/** The frames that every kind of stream has, in its own wire form. */
export interface StreamFrames {
	readonly heartbeat: Encoded;
	readonly draining: Encoded;
	revoked(error: HubError): Encoded;
}

export interface PulledStreamOptions {
	readonly clock: Clock;
	/** Of the call. */
	readonly signal: AbortSignal;
	readonly frames: StreamFrames;
	/** The next frame; undefined: none now. Called only when the peer can take a frame. */
	readonly produce: () => Encoded | undefined;
	/** Called once, as soon as the stream is to end for whatever reason, whether or not the peer still takes frames. */
	readonly onEnd: () => void;
}

/** Reasons that say that the right to the stream was taken away. */
const REVOCATIONS: ReadonlySet<Reason> = new Set([
	"PERMISSION_REVOKED",
	"CREDENTIAL_REVOKED",
	"CREDENTIAL_EXPIRED",
	"PLUGIN_DISABLED",
]);

/**
 * The response side of a long stream. A frame is made at the moment the peer can take it, from what is waiting then: that
 * is what bounds the stream, and what makes batches.
 */
export class PulledStream implements AsyncIterableIterator<Encoded> {
	readonly #options: PulledStreamOptions;
	readonly #onAbort: () => void;
	#wake: (() => void) | undefined;
	#pulled: (() => void)[] = [];
	#timer: Timer | undefined;
	#sentAt: number;
	#started = false;
	#heartbeatDue = false;
	#finishing = false;
	#released = false;
	#last: Encoded | undefined;
	#failure: { readonly error: unknown } | undefined;

	constructor(options: PulledStreamOptions) {
		this.#options = options;
		this.#sentAt = options.clock.monotonic();
		this.#onAbort = () => this.fail(options.signal.reason);
		options.signal.addEventListener("abort", this.#onAbort, { once: true });
		this.#beat(HEARTBEAT_MS);
		if (options.signal.aborted) this.#onAbort();
	}

	/** Whether nothing more is to be done for this stream. */
	get ended(): boolean {
		return this.#released;
	}

	/** There may be a frame to produce. It is made once all that came in with this is done with: that makes batches. */
	wake(): void {
		const wake = this.#wake;
		if (wake === undefined) return;
		this.#wake = undefined;
		process.nextTick(wake);
	}

	/** Ends the stream once there is nothing left to produce. */
	finish(): void {
		this.#finishing = true;
		this.wake();
	}

	/** Ends the stream now: with the frame that goes with the error, where there is one, and then the error. */
	fail(error: unknown): void {
		if (this.#released) return;
		this.#failure = { error };
		if (error instanceof HubError) {
			if (error.reason === "HUB_DRAINING") this.#last = this.#options.frames.draining;
			else if (REVOCATIONS.has(error.reason)) this.#last = this.#options.frames.revoked(error);
		}
		this.#release();
	}

	/** Settles when the peer has taken a frame since, or the stream has ended: then a full reader may look again. */
	pulled(): Promise<void> {
		if (this.#released) return Promise.resolve();
		return new Promise((resolve) => this.#pulled.push(resolve));
	}

	async next(): Promise<IteratorResult<Encoded>> {
		while (true) {
			if (this.#failure !== undefined) {
				const last = this.#last;
				if (last === undefined) throw this.#failure.error;
				this.#last = undefined;
				return { done: false, value: last };
			}
			if (this.#released) return { done: true, value: undefined };
			const frame = this.#produce();
			if (frame !== undefined) {
				this.#sentAt = this.#options.clock.monotonic();
				this.#tellPulled();
				return { done: false, value: frame };
			}
			if (this.#finishing) {
				this.#release();
				continue;
			}
			await new Promise<void>((resolve) => {
				this.#wake = resolve;
			});
		}
	}

	async return(): Promise<IteratorResult<Encoded>> {
		this.#release();
		return { done: true, value: undefined };
	}

	[Symbol.asyncIterator](): this {
		return this;
	}

	#produce(): Encoded | undefined {
		const frame = this.#options.produce();
		if (frame !== undefined) this.#started = true;
		if (frame !== undefined || !this.#heartbeatDue) return frame;
		this.#heartbeatDue = false;
		// The first frame of a stream is `ready`, even where that takes its time.
		if (!this.#started) return undefined;
		return this.#options.frames.heartbeat;
	}

	/** One timer that finds out how long nothing was sent, so that sending costs no timer. */
	#beat(ms: number): void {
		const { clock } = this.#options;
		this.#timer = clock.after(ms, () => {
			const left = this.#sentAt + HEARTBEAT_MS - clock.monotonic();
			if (left <= 0) {
				this.#heartbeatDue = true;
				this.wake();
			}
			this.#beat(left > 0 ? left : HEARTBEAT_MS);
		});
	}

	#release(): void {
		if (this.#released) return;
		this.#released = true;
		this.#timer?.cancel();
		this.#options.signal.removeEventListener("abort", this.#onAbort);
		this.#options.onEnd();
		this.#tellPulled();
		this.wake();
	}

	#tellPulled(): void {
		if (this.#pulled.length === 0) return;
		const pulled = this.#pulled;
		this.#pulled = [];
		for (const resolve of pulled) resolve();
	}
}
