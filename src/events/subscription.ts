import type { Clock, Timer } from "../clock/clock.ts";
import type { EventFilter } from "../expressions/event-filter.ts";
import { HubError } from "../hub-error.ts";
import type { Caller } from "../security/caller.ts";
import type { LogStore, TopicFilter } from "../state/log-store.ts";
import { exactTopics, type Pattern } from "../subjects/pattern.ts";
import { BatchBuilder, type Run } from "./batch-builder.ts";
import { EventBlock } from "./event-block.ts";
import { LiveBuffer } from "./live-buffer.ts";
import { type FrameParts, SubscriptionFrames } from "./subscription-frames.ts";
import type { TailPump } from "./tail-pump.ts";
import { yieldTurn } from "./yield-turn.ts";

/** How often a frame is sent where there is nothing to say, in milliseconds. */
export const HEARTBEAT_MS = 15_000;

/** History is read to about this far from the end before live events are buffered, so that long history needs no buffer. */
const ATTACH_WITHIN = 1024;
const READ_RECORDS = 512;
const READ_BYTES = 256 * 1024;

/** What a caller asked for, checked. */
export interface SubscriptionOptions {
	readonly patterns: readonly Pattern[];
	/** -100 to 100. */
	readonly priority: number;
	readonly filter: EventFilter | undefined;
	/** Ends the stream after this many events; 0: never. */
	readonly limit: number;
	/** Milliseconds; undefined: never. */
	readonly idleTimeoutMs: number | undefined;
	/** False: ends once the history is delivered. */
	readonly live: boolean;
}

export interface SubscriptionParts {
	readonly id: string;
	readonly caller: Caller;
	readonly options: SubscriptionOptions;
	/** The first sequence that it wants. */
	readonly from: number;
	/** The first sequence that was not stored yet when it was asked for. */
	readonly began: number;
	/** Whether the record at `from` has to be there still when it is first read. */
	readonly exactStart: boolean;
	readonly log: LogStore;
	readonly pump: TailPump;
	readonly clock: Clock;
	readonly bufferRuns: number;
	readonly bufferBytes: number;
	/** Called once, when nothing of the subscription is left. */
	readonly onClose: () => void;
}

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
	readonly caller: Caller;
	readonly options: SubscriptionOptions;
	/** Milliseconds since the Unix epoch. */
	readonly createTime: number;
	readonly #log: LogStore;
	readonly #pump: TailPump;
	readonly #clock: Clock;
	readonly #onClose: () => void;
	readonly #topics: TopicFilter;
	readonly #frames: SubscriptionFrames;
	readonly #buffer: LiveBuffer;
	readonly #builder: BatchBuilder;
	/** Events stored below this were there before the subscription. */
	readonly #began: number;
	/** The next sequence to examine; all below it were delivered or did not match. */
	#cursor: number;
	#attached: Disposable | undefined;
	/** Whether records that are no longer there are a gap: not before the first page of what merely asked for the oldest. */
	#isGapless: boolean;
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
		const { id, caller, options, log, pump, clock } = parts;
		this.id = id;
		this.caller = caller;
		this.options = options;
		this.createTime = clock.now();
		this.#log = log;
		this.#pump = pump;
		this.#clock = clock;
		this.#onClose = parts.onClose;
		this.#began = parts.began;
		this.#cursor = parts.from;
		this.#isGapless = parts.exactStart;
		this.#frameAt = this.#eventAt = clock.monotonic();
		this.#frames = new SubscriptionFrames(id, log.epoch);
		const exact = exactTopics(options.patterns);
		this.#topics = { exact, matches: (topic) => options.patterns.some((pattern) => pattern.matches(topic)) };
		this.#builder = new BatchBuilder({
			clock,
			caller,
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
		yield* this.#send(this.#frames.ready(this.#cursor - 1, HEARTBEAT_MS));
		let caughtUp = false;
		for (;;) {
			const end = yield* live ? this.#readToAttachPoint() : this.#readTo(this.#began);
			if (end === "limit") return;
			if (!caughtUp) {
				caughtUp = true;
				this.#eventAt = this.#clock.monotonic();
				yield* this.#send(this.#frames.caughtUp(this.#cursor - 1));
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
			const page = await this.#log.read({
				from: { sequence: this.#cursor },
				topics: this.#topics,
				maxRecords: READ_RECORDS,
				maxBytes: READ_BYTES,
			});
			this.#throwIfEnded();
			if (this.#isGapless && page.bounds.first > this.#cursor) throw this.#overtaken();
			this.#isGapless = true;
			const wanted = page.records.filter((record) => record.sequence < end && this.#topics.matches(record.topic));
			let run: Run | undefined;
			if (wanted.length > 0) run = { block: new EventBlock(wanted, this.#began), from: 0, to: wanted.length };
			while (run !== undefined) {
				run = this.#fill(run);
				if (this.#builder.events > 0) yield* this.#sendBatch();
				else await yieldTurn();
				if (this.#isAtLimit()) return "limit";
			}
			this.#cursor = Math.max(this.#cursor, Math.min(page.next, end));
			if (wanted.length === 0) await yieldTurn();
			yield* this.#heartbeatIfDue();
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
				yield* this.#idle();
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
			if (this.#builder.events > 0) yield* this.#sendBatch();
			else if (this.#rest !== undefined) await yieldTurn();
			if (this.#isAtLimit()) return "limit";
		}
		return undefined;
	}

	/** Waits for an event, a heartbeat's or the idle timeout's turn. */
	async *#idle(): AsyncGenerator<FrameParts, void, undefined> {
		const { idleTimeoutMs } = this.options;
		const idleAt = idleTimeoutMs === undefined ? Number.POSITIVE_INFINITY : this.#eventAt + idleTimeoutMs;
		if (this.#clock.monotonic() >= idleAt) {
			throw new HubError("IDLE_TIMEOUT", `no event came for ${idleTimeoutMs} ms`);
		}
		yield* this.#heartbeatIfDue();
		if (!this.#buffer.isEmpty) return;
		// Frames and events only put the moment off, so an armed timer is never too late; it is armed again when it was early.
		this.#timer ??= this.#clock.after(Math.min(this.#frameAt + HEARTBEAT_MS, idleAt) - this.#clock.monotonic(), () => {
			this.#timer = undefined;
			this.#buffer.nudge();
		});
		await this.#buffer.wait();
	}

	async *#heartbeatIfDue(): AsyncGenerator<FrameParts, void, undefined> {
		if (this.#clock.monotonic() - this.#frameAt < HEARTBEAT_MS) return;
		yield* this.#send(this.#frames.heartbeat(this.#cursor - 1));
	}

	#fill(run: Run): Run | undefined {
		this.#builder.begin(this.#remaining());
		return this.#examine(run);
	}

	/** Adds a run to the frame in hand, without what was delivered already; gives what the frame had no room for. */
	#examine(run: Run): Run | undefined {
		const { block, to } = run;
		let { from } = run;
		while (from < to && block.records[from]!.sequence < this.#cursor) from++;
		if (from === to) return undefined;
		const examined = this.#builder.add({ block, from, to });
		if (examined > from) this.#cursor = block.records[examined - 1]!.sequence + 1;
		return examined < to ? { block, from: examined, to } : undefined;
	}

	*#sendBatch(): Generator<FrameParts, void, undefined> {
		const { entries, bytes, events } = this.#builder;
		this.#delivered += events;
		this.#eventAt = this.#clock.monotonic();
		yield* this.#send(this.#frames.batch(this.#cursor - 1, entries, bytes));
	}

	*#send(frame: FrameParts): Generator<FrameParts, void, undefined> {
		this.#frameAt = this.#suspendedAt = this.#clock.monotonic();
		yield frame;
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

	#overtaken(): HubError {
		return new HubError("SLOW_CONSUMER", "events that were not delivered yet are no longer kept");
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
