import type { Clock, Timer } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import { HEARTBEAT_MS } from "../streams/heartbeat.ts";
import type { Call } from "./call.ts";
import { endingOf, endWith, type StreamRegistry } from "./stream-ending.ts";
import type { StreamFrames } from "./stream-frames.ts";

export interface PulledStreamOptions<F> {
	readonly clock: Clock;
	readonly call: Call;
	readonly streams: StreamRegistry;
	/** Throws where the stream would not be admitted now. Default: nothing but the credential stands for it. */
	readonly recheck?: () => void;
	readonly frames: StreamFrames<F>;
	/** The next frame; undefined: none now. Called only when the peer can take a frame. */
	readonly produce: () => F | undefined;
	/** Called in place of `fail` as the hub stops, to `finish` with the error once what was begun is done. */
	readonly onDrain?: (error: unknown) => void;
	/** Called once, as soon as the stream is to end for whatever reason, whether or not the peer still takes frames. */
	readonly onEnd: () => void;
}

/**
 * The response side of a long stream. A frame is made at the moment the peer can take it, from what is waiting then: that
 * is what bounds the stream, and what makes batches. It beats while it is idle, and ends with its call, with the hub and
 * with the right to it.
 */
export class PulledStream<F> implements AsyncIterableIterator<F> {
	readonly #options: PulledStreamOptions<F>;
	readonly #registration: Disposable;
	#wake: (() => void) | undefined;
	#pulled: (() => void)[] = [];
	#timer: Timer | undefined;
	#sentAt: number;
	#started = false;
	#heartbeatDue = false;
	#finishing: { readonly error: unknown } | undefined;
	#released = false;
	#last: F | undefined;
	#failure: { readonly error: unknown } | undefined;

	/** Throws where the stream is not admitted. */
	constructor(options: PulledStreamOptions<F>) {
		this.#options = options;
		this.#sentAt = options.clock.monotonic();
		const { call, streams, recheck = () => {}, onDrain } = options;
		this.#registration = endWith(call, streams, recheck, (error, ending) => {
			if (ending === "draining" && onDrain !== undefined) onDrain(error);
			else this.fail(error);
		});
		if (this.#released) this.#registration[Symbol.dispose]();
		else this.#beat(HEARTBEAT_MS);
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

	/** Ends the stream once there is nothing left to produce; then with the error, where there is one. */
	finish(error?: unknown): void {
		this.#finishing ??= { error };
		this.wake();
	}

	/** Ends the stream now: with the frame that goes with the error, where there is one, and then the error. */
	fail(error: unknown): void {
		if (this.#released) return;
		this.#failure = { error };
		const ending = endingOf(error);
		if (ending === "draining") this.#last = this.#options.frames.draining();
		else if (ending === "revoked" && error instanceof HubError) this.#last = this.#options.frames.revoked(error);
		this.#release();
	}

	/** Settles when the peer has taken a frame since, or the stream has ended: then a full reader may look again. */
	pulled(): Promise<void> {
		if (this.#released) return Promise.resolve();
		return new Promise((resolve) => this.#pulled.push(resolve));
	}

	async next(): Promise<IteratorResult<F>> {
		while (true) {
			if (this.#failure !== undefined) {
				const last = this.#last;
				if (last === undefined) throw this.#failure.error;
				this.#last = undefined;
				return { done: false, value: last };
			}
			if (this.#released) return { done: true, value: undefined };
			const frame = this.#tryProduce();
			if (frame !== undefined) {
				this.#sentAt = this.#options.clock.monotonic();
				this.#tellPulled();
				return { done: false, value: frame };
			}
			if (this.#released) continue;
			if (this.#finishing !== undefined) {
				if (this.#finishing.error === undefined) this.#release();
				else this.fail(this.#finishing.error);
				continue;
			}
			await new Promise<void>((resolve) => {
				this.#wake = resolve;
			});
		}
	}

	async return(): Promise<IteratorResult<F>> {
		this.#release();
		return { done: true, value: undefined };
	}

	[Symbol.asyncIterator](): this {
		return this;
	}

	#tryProduce(): F | undefined {
		try {
			return this.#produce();
		} catch (error) {
			this.fail(error);
			return undefined;
		}
	}

	#produce(): F | undefined {
		const frame = this.#options.produce();
		if (frame !== undefined) this.#started = true;
		if (frame !== undefined || !this.#heartbeatDue) return frame;
		this.#heartbeatDue = false;
		// The first frame of a stream is `ready`, even where that takes its time.
		if (!this.#started) return undefined;
		return this.#options.frames.heartbeat();
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
		this.#registration?.[Symbol.dispose]();
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
