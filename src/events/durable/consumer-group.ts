import type { Clock, IdSource } from "../../clock/clock.ts";
import type { EventFilter } from "../../expressions/event-filter.ts";
import { HubError } from "../../hub-error.ts";
import { storageRefusal } from "../../idempotency/storage-refusal.ts";
import type { KvStore } from "../../state/kv-store.ts";
import type { LogStore } from "../../state/log-store.ts";
import type { TailPump } from "../tail-pump.ts";
import { yieldTurn } from "../yield-turn.ts";
import { type ConsumerOutcome, ConsumerSession, type LostEvents, type SessionGroup } from "./consumer-session.ts";
import type { DeadLetterSink } from "./dead-letter-sink.ts";
import type { DurableDefinition } from "./durable-definition.ts";
import type { DurableCounters, DurableProgress, UnsettledEvent } from "./durable-progress.ts";
import { EventTimers } from "./event-timers.ts";
import { GroupSessions } from "./group-sessions.ts";
import { type MatchingEvent, MatchingReader, readAgain, type Selection } from "./matching-reader.ts";
import type { PendingEvent } from "./pending-event.ts";
import { PendingEvents } from "./pending-events.ts";
import { ProgressKeeper } from "./progress-keeper.ts";

/** What one frame holds at most: deliveries, and bytes of events (the last may go over). */
const BATCH_DELIVERIES = 256;
const BATCH_BYTES = 256 * 1024;
/** How far the group reads ahead of what is settled: events, and bytes of them (the last may go over). */
const AHEAD_EVENTS = 1024;
const AHEAD_BYTES = 8 * 1024 * 1024;

export interface ConsumerGroupOptions {
	readonly definition: DurableDefinition;
	readonly filter: EventFilter | undefined;
	readonly kv: KvStore;
	readonly log: LogStore;
	readonly pump: TailPump;
	readonly clock: Clock;
	readonly ids: IdSource;
	readonly sink: DeadLetterSink;
	/** Called once, when the group has ended and everything it has to store is stored. */
	readonly onEnd: () => void;
	/** Told of faults that no consumer hears of as they are. */
	readonly onFault: (error: unknown) => void;
}

/**
 * The consumers of one durable subscription, and its way through the log.
 *
 *     read what matches -> pending -> dealt to a session -> settled -> stored -> confirmed
 *
 * - CG-1 An event whose settlement was confirmed is never delivered again; one that is not settled is, after a crash too.
 * - CG-2 An event is with one session at a time, and of each ordering key one event is (PE-1).
 * - CG-3 What retention drops before it is settled is counted, and every consumer is told.
 * - CG-4 A group whose progress cannot be stored ends all its sessions; the next one begins with what is stored.
 */
export class ConsumerGroup implements SessionGroup {
	readonly definition: DurableDefinition;
	readonly #options: ConsumerGroupOptions;
	readonly #selection: Selection;
	readonly #counters: DurableCounters;
	readonly #before: Readonly<DurableCounters>;
	readonly #pending = new PendingEvents();
	readonly #sessions = new GroupSessions();
	/** Who has an event. */
	readonly #holders = new Map<PendingEvent, ConsumerSession>();
	readonly #timers: EventTimers;
	readonly #keeper: ProgressKeeper;
	#cursor: number;
	/** Everything above this sequence was never dealt and needs not be listed as unsettled. */
	#dealtTo = 0;
	#reader: MatchingReader | undefined;
	#room: (() => void) | undefined;
	/** Losses that no session was there to be told of. */
	#untold: LostEvents | undefined;
	#ended = false;

	private constructor(options: ConsumerGroupOptions, progress: DurableProgress) {
		const { definition, filter, clock } = options;
		this.definition = definition;
		this.#options = options;
		this.#before = progress.counters;
		this.#counters = { ...progress.counters };
		this.#cursor = progress.cursor;
		this.#timers = new EventTimers(clock);
		this.#keeper = new ProgressKeeper({
			...options,
			counters: this.#counters,
			progress: () => this.progress,
			onBury: (event) => this.#pending.forget(event),
			onFailure: (error) => this.#fail(error),
		});
		const { pluginId, patterns, began } = definition;
		this.#selection = {
			subscriber: { principal: `plugin:${pluginId}`, pluginId },
			patterns,
			filter,
			replayBelow: began,
			onFilterError: () => {
				this.#counters.filterErrors++;
			},
		};
	}

	/** Opens the group as it was stored. It ends by itself when its last session has left. */
	static async open(options: ConsumerGroupOptions, progress: DurableProgress): Promise<ConsumerGroup> {
		const group = new ConsumerGroup(options, progress);
		await group.#restore(progress);
		return group;
	}

	/** It takes no more sessions. */
	get ended(): boolean {
		return this.#ended;
	}

	get sessions(): number {
		return this.#sessions.size;
	}

	get inFlight(): number {
		return this.#holders.size;
	}

	/** Events that were read and are with nobody. */
	get waiting(): number {
		return this.#pending.size - this.#holders.size - this.#keeper.dying;
	}

	/** What it has counted since it was opened. */
	get since(): { readonly redelivered: number; readonly dead: number; readonly lost: number } {
		const { redelivered, dead, lost } = this.#counters;
		const before = this.#before;
		return { redelivered: redelivered - before.redelivered, dead: dead - before.dead, lost: lost - before.lost };
	}

	/** An open session. */
	session(id: string): ConsumerSession | undefined {
		return this.#sessions.get(id);
	}

	get isCaughtUp(): boolean {
		return this.#reader?.isCurrentAt(this.#cursor) === true && this.waiting === 0;
	}

	/** How far it is now. What was marked and is not stored yet counts as settled here. */
	get progress(): DurableProgress {
		const unsettled: UnsettledEvent[] = [];
		let cursor = this.#cursor;
		for (const { sequence, attempts, notBefore } of this.#pending.values()) {
			if (sequence > this.#dealtTo) {
				cursor = sequence;
				break;
			}
			unsettled.push({ sequence, attempts, notBefore });
		}
		return { epoch: this.#options.log.epoch, cursor, unsettled, counters: this.#counters };
	}

	/** Refuses with LIMIT_EXCEEDED. The session must be closed by its stream. */
	join(maxInFlight: number): ConsumerSession {
		this.#sessions.requireRoom(this.definition);
		const session = new ConsumerSession(this, this.#options.ids.next(), maxInFlight);
		this.#sessions.add(session);
		if (this.#untold !== undefined) session.tellLost(this.#untold);
		this.#untold = undefined;
		if (this.#reader === undefined) this.#start();
		return session;
	}

	/** CS-2. What is ready is split evenly among those that have asked for more. */
	deal(session: ConsumerSession): readonly PendingEvent[] {
		const { maxInFlight, ackWaitMs } = this.definition;
		const most = Math.min(
			session.room,
			maxInFlight - this.inFlight,
			BATCH_DELIVERIES,
			Math.ceil(this.#pending.ready / this.#sessions.asking(session)),
		);
		const dealt: PendingEvent[] = [];
		let bytes = 0;
		while (dealt.length < most && bytes < BATCH_BYTES) {
			const event = this.#pending.take();
			if (event === undefined) break;
			event.attempts++;
			this.#counters.delivered++;
			if (event.attempts > 1) this.#counters.redelivered++;
			this.#dealtTo = Math.max(this.#dealtTo, event.sequence);
			this.#holders.set(event, session);
			this.#timers.set(event, ackWaitMs, () => this.#expire(event));
			bytes += event.entry.byteLength;
			dealt.push(event);
		}
		if (dealt.length > 0) this.#offer();
		return dealt;
	}

	settle(event: PendingEvent, outcome: ConsumerOutcome): void {
		switch (outcome.kind) {
			case "in-progress":
				this.#timers.set(event, this.definition.ackWaitMs, () => this.#expire(event));
				return;
			case "acknowledge":
				this.#let(event);
				this.#counters.acknowledged++;
				this.#pending.release(event);
				this.#pending.forget(event);
				this.#keeper.mark();
				break;
			case "terminate":
				this.#let(event);
				this.#giveUp(event, outcome.reason === "" ? "terminated" : `terminated: ${outcome.reason}`);
				break;
			case "negative":
				this.#let(event);
				this.#again(event, outcome.delayMs, "not acknowledged");
				break;
		}
		this.#offer();
	}

	stored(): Promise<void> {
		return this.#keeper.stored();
	}

	leave(session: ConsumerSession): void {
		this.#sessions.remove(session);
		if (this.#ended) return;
		for (const event of session.unsettled) {
			this.#let(event);
			this.#again(event, 0, "its consumer left");
		}
		if (this.#sessions.size > 0) {
			this.#offer();
			return;
		}
		this.#stop();
		this.#keeper.mark();
		this.#keeper.stored().then(
			() => {
				if (this.#sessions.size === 0) this.#finish();
			},
			// CG-4: whoever failed to store has ended the group.
			() => {},
		);
	}

	/** Ends every session with the error, and the group: at once where `isStale`, else once its progress is stored. */
	end(error: HubError, isStale: boolean): void {
		if (this.#ended) return;
		if (isStale) {
			this.#keeper.fail(error);
			this.#finish();
		}
		for (const session of this.#sessions) session.end(error);
	}

	/** Reads what is listed as unsettled once more. */
	async #restore({ epoch, unsettled }: DurableProgress): Promise<void> {
		const { log } = this.#options;
		if (epoch !== log.epoch) {
			// Sequences of another numbering mean nothing here.
			this.#cursor = log.bounds().first;
			this.#lose({ lost: 0, upTo: this.#cursor - 1 });
			return;
		}
		for (const { sequence, attempts, notBefore } of unsettled) {
			this.#dealtTo = sequence;
			const read = await readAgain(log, sequence, this.#selection);
			if (read === "gone") this.#lose({ lost: 1, upTo: log.bounds().first - 1 });
			else if (read !== "unmatched") this.#admit(read, attempts, notBefore);
		}
	}

	#admit(event: MatchingEvent, attempts: number, notBefore: number): void {
		const { sequence, entry, orderingKey } = event;
		const pending: PendingEvent = { sequence, entry, orderingKey, attempts, notBefore, deadline: undefined };
		this.#pending.add(pending);
		if (notBefore !== 0) this.#delay(pending, notBefore - this.#options.clock.now());
	}

	#start(): void {
		const { log, pump, clock } = this.#options;
		const selection = this.#selection;
		const onGap = (from: number, first: number) => this.#lose({ lost: first - from, upTo: first - 1 });
		const reader = new MatchingReader({ log, pump, clock, selection, from: this.#cursor, onGap });
		this.#reader = reader;
		void this.#read(reader);
	}

	#stop(): void {
		this.#reader?.[Symbol.dispose]();
		this.#reader = undefined;
		this.#room?.();
	}

	async #read(reader: MatchingReader): Promise<void> {
		try {
			while (this.#reader === reader) {
				if (!this.#hasRoom) {
					await new Promise<void>((resolve) => {
						this.#room = resolve;
					});
					this.#room = undefined;
					continue;
				}
				const stretch = await reader.read(this.#ahead - this.#pending.size);
				if (stretch === undefined || this.#reader !== reader) return;
				const before = this.#cursor;
				for (const event of stretch.events) this.#admit(event, 0, 0);
				this.#cursor = Math.max(this.#cursor, stretch.next);
				if (stretch.events.length > 0 || stretch.next > before) this.#keeper.touch();
				this.#offer();
				await yieldTurn();
			}
		} catch (error) {
			this.#fail(error);
		}
	}

	get #ahead(): number {
		return Math.max(AHEAD_EVENTS, this.definition.maxInFlight);
	}

	get #hasRoom(): boolean {
		return this.#pending.size < this.#ahead && this.#pending.bytes < AHEAD_BYTES;
	}

	/** Wakes who could take what is ready, the least busy first, and the reader where it waits for room. */
	#offer(): void {
		if (this.#hasRoom) this.#room?.();
		if (this.#ended) return;
		if (this.#pending.ready > 0 && this.inFlight < this.definition.maxInFlight) this.#sessions.wake();
		else if (this.isCaughtUp) this.#sessions.wakeToTell();
	}

	/** The event is with nobody any more. */
	#let(event: PendingEvent): void {
		this.#holders.delete(event);
		this.#timers.clear(event);
	}

	#expire(event: PendingEvent): void {
		this.#holders.get(event)?.drop(event);
		this.#let(event);
		this.#again(event, undefined, "not acknowledged in time");
		this.#offer();
	}

	/** Delivers the event again, after a while, or sets it aside. `delayMs` undefined: as the backoff says. */
	#again(event: PendingEvent, delayMs: number | undefined, why: string): void {
		const { maxDeliveries, backoffMs } = this.definition;
		if (event.attempts >= maxDeliveries) {
			this.#giveUp(event, `${why} in ${event.attempts} deliveries`);
			return;
		}
		const delay = delayMs ?? backoffMs[Math.min(event.attempts, backoffMs.length) - 1] ?? 0;
		this.#delay(event, delay);
		this.#keeper.touch();
	}

	#delay(event: PendingEvent, delayMs: number): void {
		if (delayMs <= 0) {
			this.#pending.resume(event);
			return;
		}
		event.notBefore = this.#options.clock.now() + Math.ceil(delayMs);
		this.#timers.set(event, delayMs, () => {
			this.#pending.resume(event);
			this.#offer();
		});
	}

	#giveUp(event: PendingEvent, reason: string): void {
		this.#pending.release(event);
		this.#keeper.bury(event, reason);
	}

	/** CG-3. */
	#lose({ lost, upTo }: LostEvents): void {
		this.#counters.lost += lost;
		this.#keeper.touch();
		if (this.#sessions.size === 0) this.#untold = { lost: (this.#untold?.lost ?? 0) + lost, upTo };
		for (const session of this.#sessions) session.tellLost({ lost, upTo });
	}

	/** CG-4. */
	#fail(error: unknown): void {
		if (this.#ended) return;
		if (!(error instanceof HubError)) this.#options.onFault(error);
		const told = error instanceof HubError ? error : storageRefusal(error);
		this.end(told instanceof HubError ? told : new HubError("INTERNAL", "internal error", { cause: error }), true);
	}

	#finish(): void {
		if (this.#ended) return;
		this.#ended = true;
		this.#stop();
		this.#keeper.stop();
		this.#timers[Symbol.dispose]();
		this.#options.onEnd();
	}
}
