import type { Clock, Timer } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import type { LogStore, StoredRecord } from "../state/log-store.ts";
import { HEARTBEAT_MS } from "../streams/heartbeat.ts";
import { BatchBuilder, type Run } from "./batch-builder.ts";
import { HistoryReader } from "./history-reader.ts";
import { LiveBuffer } from "./live-buffer.ts";
import type { Subscriber } from "./subscriber.ts";
import { type FrameParts, SubscriptionFrames } from "./subscription-frames.ts";
import type { SubscriptionOptions, SubscriptionParts } from "./subscription-options.ts";
import type { TailPump } from "./tail-pump.ts";
import { yieldTurn } from "./yield-turn.ts";

/** History is read to about this far from the end before live events are buffered, so that long history needs no buffer. */
const ATTACH_WITHIN = 1024;

/** How a subscription is ended from outside, which decides its last frame. */
export type Ending = "revoked" | "draining" | "silent";

/**
 * One subscriber's way through the log, from where it asked to start:
 *
 *     read the log ... attach the live buffer at A ... read up to A -> caught_up -> drain the buffer, skipping what was read
 *
 * Every event that matches and is stored at `from` or later is delivered once and in order. What the reader is too slow
 * for overflows the buffer, which is then dropped, and the log is read again from where the reader stands. Frames are
 * pulled, and each takes what is waiting.
 */
export class Subscription {
	readonly id: string;
	readonly subscriber: Subscriber;
	readonly options: SubscriptionOptions;
	/** Milliseconds since the Unix epoch. */
	readonly createTime: number;
	readonly #log: LogStore;
	readonly #pump: TailPump;
	readonly #clock: Clock;
	readonly #onClose: () => void;
	readonly #history: HistoryReader;
	readonly #frames: SubscriptionFrames;
	readonly #buffer: LiveBuffer;
	readonly #builder: BatchBuilder;
	/** Events stored below this were there before the subscription. */
	readonly #began: number;
	readonly #notBefore: number;
	/** The next sequence to examine; all below it were delivered or did not match. */
	#cursor: number;
	#attached: Disposable | undefined;
	/** What is left of the run that the last frame had no room for. */
	#rest: Run | undefined;
	#timer: Timer | undefined;
	#frameAt: number;
	#eventAt: number;
	#suspendedAt: number | undefined;
	#delivered = 0;
	#filterErrors = 0;
	#ended: { readonly error: unknown; readonly ending: Ending } | undefined;
	#closed = false;

	constructor(parts: SubscriptionParts) {
		const { id, subscriber, options, log, pump, clock } = parts;
		this.id = id;
		this.subscriber = subscriber;
		this.options = options;
		this.createTime = clock.now();
		this.#log = log;
		this.#pump = pump;
		this.#clock = clock;
		this.#onClose = parts.onClose;
		this.#began = parts.began;
		this.#notBefore = parts.notBefore;
		this.#cursor = parts.from;
		this.#frameAt = this.#eventAt = clock.monotonic();
		this.#frames = new SubscriptionFrames(id, log.epoch, parts.resumeToken);
		const { began: replayBelow, exactStart } = parts;
		this.#history = new HistoryReader({ log, patterns: options.patterns, replayBelow, exactStart });
		this.#builder = new BatchBuilder({
			clock,
			subscriber,
			filter: options.filter,
			onFilterError: () => {
				this.#filterErrors++;
			},
		});
		this.#buffer = new LiveBuffer({
			priority: options.priority,
			maxRuns: parts.bufferRuns,
			maxBytes: parts.bufferBytes,
			onOverflow: () => this.#detach(),
		});
	}

	/** Stored events that it has not examined yet. */
	get lag(): number {
		return Math.max(0, this.#log.bounds().next - this.#position);
	}

	get delivered(): number {
		return this.#delivered;
	}

	get filterErrors(): number {
		return this.#filterErrors;
	}

	/** Milliseconds for which its peer has taken no frame that was ready; 0 while the hub has nothing to give. */
	get stalledMs(): number {
		return this.#suspendedAt === undefined ? 0 : this.#clock.monotonic() - this.#suspendedAt;
	}

	/** Ends it with SLOW_CONSUMER and the position to resume from. */
	endSlow(why: string): void {
		this.end(new HubError("SLOW_CONSUMER", `${why}; subscribe again after the position given`), "silent");
	}

	/**
	 * Ends it: its peer is told at its next pull, with a last frame where `ending` has one. What it holds is given up at
	 * once, whether or not the peer ever pulls again. Idempotent.
	 */
	end(error: unknown, ending: Ending): void {
		if (this.#ended !== undefined || this.#closed) return;
		this.#ended = { error: this.#withPosition(error), ending };
		this.#buffer.end(this.#ended.error);
		this.#close();
	}

	/** Its frames, `ready` first. One reader. Ends the subscription when the reader leaves. */
	async *frames(): AsyncGenerator<FrameParts, void, undefined> {
		try {
			yield* this.#deliver();
		} catch (error) {
			const last = this.#lastFrame();
			if (last !== undefined) yield last;
			throw this.#ended?.error ?? this.#withPosition(error);
		} finally {
			this.#close();
		}
	}

	async *#deliver(): AsyncGenerator<FrameParts, void, undefined> {
		const { live } = this.options;
		yield this.#offer(this.#frames.ready(this.#cursor - 1, HEARTBEAT_MS));
		this.#taken();
		let caughtUp = false;
		for (;;) {
			const end = yield* live ? this.#readToAttachPoint() : this.#readTo(this.#began);
			if (end === "limit") return;
			if (!caughtUp) {
				caughtUp = true;
				this.#eventAt = this.#clock.monotonic();
				yield this.#offer(this.#frames.caughtUp(this.#cursor - 1));
				this.#taken();
			}
			if (!live) return;
			if ((yield* this.#drainLive()) === "limit") return;
		}
	}

	/** Reads history until the live buffer has everything that comes after it. */
	async *#readToAttachPoint(): AsyncGenerator<FrameParts, "limit" | undefined, undefined> {
		for (;;) {
			let attachPoint = Number.POSITIVE_INFINITY;
			if (this.#log.bounds().next - this.#cursor <= ATTACH_WITHIN) attachPoint = this.#attach();
			const end = Math.min(attachPoint, this.#log.bounds().next);
			if ((yield* this.#readTo(end)) === "limit") return "limit";
			if (this.#attached !== undefined && this.#cursor >= attachPoint) return undefined;
		}
	}

	/**
	 * Attaches, or attaches anew; the buffer gets everything from the sequence returned on. What was stored before the
	 * subscription is always read, since the pump does not mark it as replayed.
	 */
	#attach(): number {
		this.#detach();
		this.#throwIfEnded();
		this.#rest = undefined;
		this.#buffer.reopen();
		this.#attached = this.#pump.attach(this.options.patterns, this.#buffer);
		return Math.max(this.#pump.position, this.#began);
	}

	async *#readTo(end: number): AsyncGenerator<FrameParts, "limit" | undefined, undefined> {
		while (this.#cursor < end) {
			this.#throwIfEnded();
			const history = await this.#history.read(this.#cursor, end);
			this.#throwIfEnded();
			let { run } = history;
			if (run === undefined) await yieldTurn();
			while (run !== undefined) {
				run = this.#fill(run);
				if (this.#builder.events > 0) {
					yield this.#batch();
					this.#taken();
				} else {
					await yieldTurn();
				}
				if (this.#isAtLimit()) return "limit";
			}
			this.#cursor = Math.max(this.#cursor, history.next);
			if (this.#isHeartbeatDue()) {
				yield this.#offer(this.#frames.heartbeat(this.#cursor - 1));
				this.#taken();
			}
		}
		return undefined;
	}

	async *#drainLive(): AsyncGenerator<FrameParts, "limit" | undefined, undefined> {
		while (this.#attached !== undefined) {
			this.#throwIfEnded();
			let run = this.#rest ?? this.#buffer.take();
			this.#rest = undefined;
			if (run === undefined) {
				// The pump has dispatched everything below its position, and nothing of it is waiting here.
				this.#cursor = Math.max(this.#cursor, this.#pump.position);
				if (this.#isHeartbeatDue()) {
					yield this.#offer(this.#frames.heartbeat(this.#cursor - 1));
					this.#taken();
				} else {
					await this.#idle();
				}
				continue;
			}
			this.#builder.begin(this.#remaining());
			while (run !== undefined) {
				const rest = this.#examine(run);
				if (rest !== undefined) {
					this.#rest = rest;
					break;
				}
				run = this.#buffer.take();
			}
			if (this.#rest === undefined) this.#cursor = Math.max(this.#cursor, this.#pump.position);
			if (this.#builder.events > 0) {
				yield this.#batch();
				this.#taken();
			} else if (this.#rest !== undefined) {
				await yieldTurn();
			}
			if (this.#isAtLimit()) return "limit";
		}
		return undefined;
	}

	/** Waits for an event, a heartbeat's or the idle timeout's turn. */
	async #idle(): Promise<void> {
		const { idleTimeoutMs } = this.options;
		const idleAt = idleTimeoutMs === undefined ? Number.POSITIVE_INFINITY : this.#eventAt + idleTimeoutMs;
		const now = this.#clock.monotonic();
		if (now >= idleAt) throw new HubError("IDLE_TIMEOUT", `no event came for ${idleTimeoutMs} ms`);
		// Frames and events only put the moment off, so an armed timer is never too late; it is armed again when it was early.
		this.#timer ??= this.#clock.after(Math.min(this.#frameAt + HEARTBEAT_MS, idleAt) - now, () => {
			this.#timer = undefined;
			this.#buffer.nudge();
		});
		await this.#buffer.wait();
	}

	#isHeartbeatDue(): boolean {
		return this.#clock.monotonic() - this.#frameAt >= HEARTBEAT_MS;
	}

	#fill(run: Run): Run | undefined {
		this.#builder.begin(this.#remaining());
		return this.#examine(run);
	}

	/**
	 * Whether it was delivered already or was stored before the time to start at. Record times never decrease, so what is
	 * passed over comes before what is not.
	 */
	#isPassedOver({ sequence, time }: StoredRecord): boolean {
		return sequence < this.#cursor || time < this.#notBefore;
	}

	/** Adds a run to the frame in hand, without what is passed over; gives what the frame had no room for. */
	#examine(run: Run): Run | undefined {
		const { block, to } = run;
		let { from } = run;
		while (from < to && this.#isPassedOver(block.records[from]!)) from++;
		if (from === to) return undefined;
		const examined = this.#builder.add({ block, from, to });
		if (examined > from) this.#cursor = block.records[examined - 1]!.sequence + 1;
		return examined < to ? { block, from: examined, to } : undefined;
	}

	#batch(): FrameParts {
		const { entries, bytes, events } = this.#builder;
		this.#delivered += events;
		this.#eventAt = this.#clock.monotonic();
		return this.#offer(this.#frames.batch(this.#cursor - 1, entries, bytes));
	}

	/** Marks the frame as waiting for the peer; to be yielded at once, with `#taken` after. */
	#offer(frame: FrameParts): FrameParts {
		this.#frameAt = this.#suspendedAt = this.#clock.monotonic();
		return frame;
	}

	#taken(): void {
		this.#suspendedAt = undefined;
		this.#throwIfEnded();
	}

	#remaining(): number {
		const { limit } = this.options;
		return limit === 0 ? Number.POSITIVE_INFINITY : limit - this.#delivered;
	}

	#isAtLimit(): boolean {
		return this.#remaining() <= 0;
	}

	get #position(): number {
		const isCurrent = this.#attached !== undefined && this.#buffer.isEmpty && this.#rest === undefined;
		return isCurrent ? Math.max(this.#cursor, this.#pump.position) : this.#cursor;
	}

	#lastFrame(): FrameParts | undefined {
		if (this.#ended?.ending === "draining") return this.#frames.draining(this.#cursor - 1);
		const { error } = this.#ended ?? {};
		if (this.#ended?.ending !== "revoked" || !(error instanceof HubError)) return undefined;
		return this.#frames.revoked(this.#cursor - 1, error.reason, error.message);
	}

	/** The same failure, saying where to resume. */
	#withPosition(error: unknown): unknown {
		if (!(error instanceof HubError)) return error;
		const position = { epoch: this.#log.epoch, sequence: String(this.#cursor - 1) };
		const metadata = { ...error.metadata, ...position };
		return new HubError(error.reason, error.message, { ...error.options, metadata, cause: error.cause });
	}

	#throwIfEnded(): void {
		if (this.#ended !== undefined) throw this.#ended.error;
	}

	#detach(): void {
		this.#attached?.[Symbol.dispose]();
		this.#attached = undefined;
	}

	#close(): void {
		if (this.#closed) return;
		this.#closed = true;
		this.#detach();
		this.#rest = undefined;
		this.#timer?.cancel();
		this.#timer = undefined;
		this.#onClose();
	}
}
