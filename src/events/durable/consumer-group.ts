import type { LetterChange } from "../../dead-letters/dead-letters.ts";
import type { EventFilter } from "../../expressions/event-filter.ts";
import { HubError } from "../../hub-error.ts";
import { storageRefusal } from "../../idempotency/storage-refusal.ts";
import type { TailPump } from "../tail-pump.ts";
import { type ConsumerOutcome, ConsumerSession, type LostEvents, type SessionGroup } from "./consumer-session.ts";
import type { DeadEvent } from "./dead-event.ts";
import type { DurableDefinition } from "./durable-definition.ts";
import type { DurableCounters, DurableProgress, UnsettledEvent } from "./durable-progress.ts";
import { EventTimers } from "./event-timers.ts";
import { GroupSessions } from "./group-sessions.ts";
import { LetterExchange, type LetterExchangeOptions } from "./letter-exchange.ts";
import {
	type MatchingEvent,
	MatchingReader,
	readAgain,
	type Selection,
	type Stretch,
	selectionOf,
} from "./matching-reader.ts";
import type { PendingEvent } from "./pending-event.ts";
import { PendingEvents } from "./pending-events.ts";
import { ProgressKeeper, type ProgressKeeperOptions } from "./progress-keeper.ts";
import { ReadAhead } from "./read-ahead.ts";

/** What one frame holds at most: deliveries, and bytes of events (the last may go over). */
const BATCH_DELIVERIES = 256;
const BATCH_BYTES = 256 * 1024;

export interface ConsumerGroupOptions
	extends Pick<LetterExchangeOptions, "definition" | "kv" | "log" | "sink">,
		Pick<ProgressKeeperOptions, "clock" | "ids" | "progressRevision"> {
	readonly filter: EventFilter | undefined;
	readonly pump: TailPump;
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
 * - CG-5 An event is due here, or a dead letter, never both: it changes sides in one commit with the progress.
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
	readonly #letters: LetterExchange;
	#cursor: number;
	/** Everything above this sequence was never dealt and needs not be listed as unsettled. */
	#dealtTo = 0;
	#reading: ReadAhead | undefined;
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
			progress: () => this.progress,
			onFailure: (error) => this.#fail(error),
		});
		this.#letters = new LetterExchange({
			...options,
			keeper: this.#keeper,
			onGivenUp: (event) => {
				this.#counters.dead++;
				this.#forget(event);
			},
			onReturned: (event) => {
				this.#pending.add(event);
				this.#offer();
			},
			isAhead: (sequence) =>
				this.#pending.has(sequence) || sequence >= Math.max(this.#cursor, options.log.bounds().first),
		});
		this.#selection = selectionOf(definition, filter, () => {
			this.#counters.filterErrors++;
		});
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

	/** Events that were read, or put back, and are with nobody. */
	get waiting(): number {
		return this.#pending.size + this.#letters.returned.size - this.#holders.size - this.#letters.dying;
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
		return this.waiting === 0 && this.#reading?.isCurrentAt(this.#cursor) === true;
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
		const all = this.#letters.returned.mergeInto(unsettled);
		return { epoch: this.#options.log.epoch, cursor, unsettled: all, counters: this.#counters };
	}

	/** Refuses with LIMIT_EXCEEDED. The session must be closed by its stream. */
	join(maxInFlight: number): ConsumerSession {
		this.#sessions.requireRoom(this.definition);
		const session = new ConsumerSession(this, this.#options.ids.next(), maxInFlight);
		this.#sessions.add(session);
		if (this.#reading === undefined) this.#start();
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
			bytes += event.size;
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
				this.#forget(event);
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

	leave(session: ConsumerSession, isHubStopping: boolean): void {
		this.#sessions.remove(session);
		if (this.#ended) return;
		for (const event of session.unsettled) {
			this.#let(event);
			if (isHubStopping) event.attempts--;
			this.#again(event, 0, "its consumer left");
		}
		if (this.#sessions.size > 0) this.#offer();
		else this.retire();
	}

	/** As `LetterExchange.takeBack`. */
	takeBack(dead: DeadEvent, take: () => LetterChange): Promise<void> {
		return this.#letters.takeBack(dead, take);
	}

	/** Ends every session with the error, and the group: at once where `isStale`, else once its progress is stored. */
	end(error: HubError, isStale: boolean): void {
		if (this.#ended) return;
		if (isStale) {
			this.#keeper.fail(error);
			this.#finish();
		}
		for (const session of this.#sessions) session.end(error);
		this.retire();
	}

	/** Ends the group where nobody is there, once everything it has to store is stored. */
	retire(): void {
		if (this.#ended || this.#sessions.size > 0) return;
		this.#stop();
		this.#keeper.mark();
		this.#keeper.stored().then(
			() => {
				if (this.#sessions.size === 0 && this.#keeper.isStored) this.#finish();
			},
			() => {}, // CG-4: whoever failed to store has ended the group.
		);
	}

	/** Reads what is listed as unsettled once more. */
	async #restore({ epoch, unsettled }: DurableProgress): Promise<void> {
		const { log } = this.#options;
		const listed = new Set(epoch === log.epoch ? unsettled.map(({ sequence }) => sequence) : []);
		const { returned } = this.#letters;
		for (const key of await returned.load((sequence) => listed.has(sequence))) this.#keeper.doom(key);
		if (epoch !== log.epoch) {
			// Sequences of another numbering mean nothing here.
			this.#cursor = log.bounds().first;
			this.#lose({ lost: 0, upTo: this.#cursor - 1 });
			return;
		}
		for (const { sequence, attempts, notBefore } of unsettled) {
			const back = returned.get(sequence);
			if (back !== undefined) {
				this.#await(Object.assign(back, { attempts, notBefore }));
				continue;
			}
			this.#dealtTo = sequence;
			const read = await readAgain(log, sequence, this.#selection);
			if (read === "gone") this.#lose({ lost: 1, upTo: log.bounds().first - 1 });
			else if (read !== "unmatched") this.#admit(read, attempts, notBefore);
		}
	}

	#admit(event: MatchingEvent, attempts: number, notBefore: number): void {
		const place = { attempts, notBefore, returnedKey: undefined, deadline: undefined };
		this.#await({ ...event, ...place, size: event.entry.byteLength });
	}

	/** The event is delivered when it is its turn, and time. */
	#await(event: PendingEvent): void {
		this.#pending.add(event);
		if (event.notBefore !== 0) this.#delay(event, event.notBefore - this.#options.clock.now());
	}

	#start(): void {
		const { log, pump, clock } = this.#options;
		const onGap = (from: number, first: number) => this.#lose({ lost: first - from, upTo: first - 1 });
		this.#reading = new ReadAhead({
			reader: new MatchingReader({ log, pump, clock, selection: this.#selection, from: this.#cursor, onGap }),
			pending: this.#pending,
			atLeast: this.definition.maxInFlight,
			onStretch: (stretch) => this.#admitAll(stretch),
			onFailure: (error) => this.#fail(error),
		});
	}

	#stop(): void {
		this.#reading?.[Symbol.dispose]();
		this.#reading = undefined;
	}

	#admitAll({ events, next }: Stretch): void {
		for (const event of events) this.#admit(event, 0, 0);
		if (events.length > 0 || next > this.#cursor) this.#keeper.touch();
		this.#cursor = Math.max(this.#cursor, next);
		this.#offer();
	}

	/** Wakes who could take what is ready, the least busy first, and the reader where it waits for room. */
	#offer(): void {
		this.#reading?.wake();
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

	/** Delivers the event again, after a while, or gives it up. `delayMs` undefined: as the backoff says. */
	#again(event: PendingEvent, delayMs: number | undefined, why: string): void {
		const { maxDeliveries, backoffMs } = this.definition;
		const { attempts } = event;
		this.#keeper.touch();
		if (attempts >= maxDeliveries) this.#giveUp(event, `${why} in ${attempts} deliveries`);
		else this.#delay(event, delayMs ?? backoffMs[Math.min(attempts, backoffMs.length) - 1] ?? 0);
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
		this.#letters.giveUp(event, reason);
	}

	/** The event counts as settled, once that is stored. */
	#forget(event: PendingEvent): void {
		this.#pending.forget(event);
		this.#letters.forget(event);
	}

	/** CG-3. */
	#lose({ lost, upTo }: LostEvents): void {
		this.#counters.lost += lost;
		this.#keeper.touch();
		this.#sessions.tellLost({ lost, upTo });
	}

	/** CG-4. */
	#fail(error: unknown): void {
		if (this.#ended) return;
		if (!(error instanceof HubError)) this.#options.onFault(error);
		const told = storageRefusal(error);
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
