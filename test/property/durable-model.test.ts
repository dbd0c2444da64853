import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { expect, test } from "vitest";
import { DurableStartSchema, DurableSubscriptionSchema } from "#gen/qirvo/hub/v1/durable_subscriptions_pb.js";
import { EventDeliverySchema, EventSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import type { DeadLetter, DeadLetters } from "../../src/dead-letters/dead-letters.ts";
import type { ConsumerOutcome, ConsumerSession } from "../../src/events/durable/consumer-session.ts";
import { deadEventOf } from "../../src/events/durable/dead-event.ts";
import { EventBus } from "../../src/events/event-bus.ts";
import { FirstAnswers } from "../../src/idempotency/first-answers.ts";
import { keys } from "../../src/state/key-layout.ts";
import { openMemoryState } from "../../src/state/memory/open-memory-state.ts";
import { FakeClock, SequentialIds } from "../harness/fake-clock.ts";
import { openLetters } from "../harness/open-letters.ts";

const ACK_WAIT = 2000;
const BACKOFF = [500, 1500];
const MAX_DELIVERIES = 3;
const MAX_IN_FLIGHT = 5;

interface ModelEvent {
	readonly subject: string;
	readonly key: string;
	/** A dead one is settled too. */
	state: "waiting" | "in-flight" | "settled";
	attempts: number;
	notBefore: number;
	dueAt: number;
	holder: ModelSession | undefined;
	deliveryId: string;
}

interface ModelSession {
	readonly session: ConsumerSession;
	credit: number;
}

/** What a durable subscription promises, over one flat list. */
class Model {
	readonly events: ModelEvent[] = [];
	/** Dead letters; an event has several where a reset brought it back by itself. */
	readonly letters: ModelEvent[] = [];
	/** For each key, the event that is under way while somebody consumes. */
	readonly heads = new Map<string, ModelEvent>();
	readonly counts = { delivered: 0, acknowledged: 0, dead: 0 };
	now = 0;
	#consumed = false;

	get inFlight(): ModelEvent[] {
		return this.events.filter(({ state }) => state === "in-flight");
	}

	/** Those that may be delivered: their key has no other under way, and their delay is over. */
	eligible(): ModelEvent[] {
		return this.events.filter(
			(event) =>
				event.state === "waiting" &&
				event.notBefore <= this.now &&
				(event.key === "" || this.heads.get(event.key) === event),
		);
	}

	emit(event: ModelEvent): void {
		this.events.push(event);
		this.#queue(event);
	}

	again(event: ModelEvent, delayMs: number | undefined): void {
		event.holder = undefined;
		if (event.attempts >= MAX_DELIVERIES) {
			this.giveUp(event);
			return;
		}
		event.state = "waiting";
		event.notBefore = this.now + (delayMs ?? BACKOFF[Math.min(event.attempts, BACKOFF.length) - 1]!);
	}

	acknowledge(event: ModelEvent): void {
		this.counts.acknowledged++;
		this.#done(event);
	}

	giveUp(event: ModelEvent): void {
		this.counts.dead++;
		this.letters.push(event);
		this.#done(event);
	}

	/** Its letter is gone. It is due as one that was never delivered, unless it is due anyway. */
	redrive(event: ModelEvent): void {
		this.letters.splice(this.letters.indexOf(event), 1);
		if (event.state !== "settled") return;
		Object.assign(event, { state: "waiting", attempts: 0, notBefore: 0 });
		this.#queue(event);
	}

	/** Everything is due again, or nothing is. */
	reset(state: "waiting" | "settled"): void {
		this.stopConsuming();
		for (const event of this.events) Object.assign(event, { state, attempts: 0, notBefore: 0, holder: undefined });
	}

	/** What falls due does so at its own time, since a backoff begins there. */
	advance(ms: number): void {
		const end = this.now + ms;
		for (;;) {
			const due = this.inFlight.filter(({ dueAt }) => dueAt <= end).sort((a, b) => a.dueAt - b.dueAt)[0];
			if (due === undefined) break;
			this.now = due.dueAt;
			this.again(due, undefined);
		}
		this.now = end;
	}

	leave(session: ModelSession, isHubStopping = false): void {
		for (const event of this.inFlight) {
			if (event.holder !== session) continue;
			if (isHubStopping) event.attempts--;
			this.again(event, 0);
		}
	}

	/** Whoever comes first finds everything in the order of the log. */
	startConsuming(): void {
		if (this.#consumed) return;
		this.#consumed = true;
		for (const event of this.events) if (event.state !== "settled") this.#queue(event);
	}

	stopConsuming(): void {
		this.#consumed = false;
		this.heads.clear();
	}

	#queue(event: ModelEvent): void {
		if (!this.#consumed || event.key === "") return;
		if (this.heads.has(event.key)) event.notBefore = 0;
		else this.heads.set(event.key, event);
	}

	#done(event: ModelEvent): void {
		event.state = "settled";
		event.holder = undefined;
		if (this.heads.get(event.key) !== event) return;
		this.heads.delete(event.key);
		const next = this.events.find(({ key, state }) => key === event.key && state !== "settled");
		if (next !== undefined) this.heads.set(event.key, next);
	}
}

type Step =
	| { readonly kind: "emit"; readonly key: string }
	| { readonly kind: "join"; readonly credit: number }
	| { readonly kind: "leave" | "restart" }
	| { readonly kind: "redrive" | "delete"; readonly pick: number }
	| { readonly kind: "reset"; readonly to: "everything" | "new" }
	| { readonly kind: "advance"; readonly ms: number }
	| { readonly kind: "settle"; readonly pick: number; readonly outcome: ConsumerOutcome };

const outcome: fc.Arbitrary<ConsumerOutcome> = fc.constantFrom<ConsumerOutcome>(
	{ kind: "acknowledge" },
	{ kind: "acknowledge" },
	{ kind: "acknowledge" },
	{ kind: "negative", delayMs: undefined },
	{ kind: "negative", delayMs: 700 },
	{ kind: "terminate", reason: "no" },
	{ kind: "terminate", reason: "never" },
	{ kind: "in-progress" },
);
const step: fc.Arbitrary<Step> = fc.oneof(
	{ weight: 6, arbitrary: fc.record({ kind: fc.constant("emit" as const), key: fc.constantFrom("", "", "a", "b") }) },
	{ weight: 10, arbitrary: fc.record({ kind: fc.constant("settle" as const), pick: fc.nat(50), outcome }) },
	{ weight: 4, arbitrary: fc.record({ kind: fc.constant("join" as const), credit: fc.integer({ min: 1, max: 4 }) }) },
	{ weight: 2, arbitrary: fc.record({ kind: fc.constant("advance" as const), ms: fc.constantFrom(100, 600, 2500) }) },
	{ weight: 4, arbitrary: fc.record({ kind: fc.constant("redrive" as const), pick: fc.nat(50) }) },
	{ weight: 1, arbitrary: fc.record({ kind: fc.constant("delete" as const), pick: fc.nat(50) }) },
	{ weight: 1, arbitrary: fc.constantFrom<Step>({ kind: "reset", to: "everything" }, { kind: "reset", to: "new" }) },
	{ weight: 1, arbitrary: fc.constant({ kind: "leave" as const }) },
	{ weight: 1, arbitrary: fc.constant({ kind: "restart" as const }) },
);

/** The subscription and the model side by side. */
class Rig {
	readonly clock = new FakeClock();
	readonly ids = new SequentialIds();
	readonly state = openMemoryState({ clock: this.clock, ids: this.ids });
	readonly model = new Model();
	bus!: EventBus;
	letters!: DeadLetters;
	sessions: ModelSession[] = [];

	async open(): Promise<void> {
		const { clock, ids } = this;
		const { kv } = this.state;
		const log = await this.state.log("events");
		const answers = new FirstAnswers({ kv, clock, ids });
		const onFault = (what: string, error: unknown) => {
			throw new Error(what, { cause: error });
		};
		this.letters = openLetters({ kv, clock, ids });
		this.bus = new EventBus({ kv, log, clock, ids, answers, letters: this.letters, onFault });
		this.bus.start();
	}

	async create(): Promise<void> {
		const writes = [{ key: keys.registration("reader"), value: Buffer.from("registered") }];
		await this.state.kv.commit({ id: this.ids.next(), writes });
		const shown = create(DurableSubscriptionSchema, {
			name: "mine",
			patterns: ["n"],
			ackWait: durationFromMs(ACK_WAIT),
			backoff: BACKOFF.map(durationFromMs),
			maxDeliveries: MAX_DELIVERIES,
			maxInFlight: MAX_IN_FLIGHT,
		});
		await this.bus.durable.create({ pluginId: "reader", shown, start: { from: "new" } });
	}

	async take(step: Step): Promise<void> {
		const { model } = this;
		switch (step.kind) {
			case "emit": {
				const subject = String(model.events.length);
				const bytes = toBinary(EventSchema, create(EventSchema, { type: "n", subject, orderingKey: step.key }));
				const append = { id: `reader/${subject}`, bytes };
				await this.bus.log.append([
					{ ...append, topic: "n" },
					{ ...append, id: `${append.id}/other`, topic: "other" },
				]);
				const fresh = { state: "waiting" as const, attempts: 0, notBefore: 0, dueAt: 0, deliveryId: "" };
				model.emit({ subject, key: step.key, holder: undefined, ...fresh });
				return;
			}
			case "join": {
				if (this.sessions.length === 3) return;
				const session = await this.bus.durable.consume(this.bus.durable.define("reader", "mine"), step.credit);
				this.sessions.push({ session, credit: step.credit });
				model.startConsuming();
				return;
			}
			case "leave": {
				const session = this.sessions.shift();
				if (session === undefined) return;
				session.session.close();
				model.leave(session);
				if (this.sessions.length === 0) model.stopConsuming();
				return;
			}
			case "restart":
				await this.bus[Symbol.asyncDispose]();
				for (const session of this.sessions) model.leave(session, true);
				model.stopConsuming();
				this.sessions = [];
				await this.open();
				return;
			case "redrive":
			case "delete": {
				const letters = this.letters.list("reader", 1000, "", "subscription/mine").letters;
				const letter = letters[step.pick % Math.max(1, letters.length)];
				if (letter === undefined) return;
				const event = this.#eventOf(letter);
				if (step.kind === "delete") {
					await this.letters.delete("reader", letter.id);
					model.letters.splice(model.letters.indexOf(event), 1);
					return;
				}
				// Of two at once, one puts it back.
				const twice = await Promise.allSettled([this.bus.durable.redrive(letter), this.bus.durable.redrive(letter)]);
				expect(twice.map(({ status }) => status)).toEqual(["fulfilled", "rejected"]);
				model.redrive(event);
				return;
			}
			case "reset": {
				const start = create(DurableStartSchema, { from: { case: "everything", value: true } });
				const target = { pluginId: "reader", name: "mine", expected: { kind: "any" as const } };
				await this.bus.durable.reset({ ...target, start: { from: step.to }, shownStart: start });
				model.reset(step.to === "new" ? "settled" : "waiting");
				this.sessions = [];
				return;
			}
			case "advance":
				model.advance(step.ms);
				await this.clock.advance(step.ms);
				return;
			case "settle": {
				const event = model.inFlight[step.pick % Math.max(1, model.inFlight.length)];
				if (event === undefined) return;
				event.holder!.session.settle(event.deliveryId, step.outcome);
				if (step.outcome.kind === "in-progress") event.dueAt = model.now + ACK_WAIT;
				if (step.outcome.kind === "acknowledge") model.acknowledge(event);
				if (step.outcome.kind === "terminate") model.giveUp(event);
				if (step.outcome.kind === "negative") model.again(event, step.outcome.delayMs);
			}
		}
	}

	/** Lets everybody take what they may have, and compares with the model. */
	async pull(): Promise<void> {
		for (let round = 0; round < 6; round++) {
			await this.clock.advance(0);
			for (const session of this.sessions) this.#collect(session);
		}
		const { model } = this;
		const hasRoom = (each: ModelSession) => this.#held(each) < each.credit;
		if (model.inFlight.length < MAX_IN_FLIGHT && this.sessions.some(hasRoom)) expect(model.eligible()).toEqual([]);
		const { status } = this.bus.durable.get("reader", "mine");
		const { delivered, acknowledged, dead } = model.counts;
		expect(status).toMatchObject({
			inFlight: model.inFlight.length,
			delivered: BigInt(delivered),
			acknowledged: BigInt(acknowledged),
			dead: BigInt(dead),
		});
		const letters = this.letters.list("reader", 1000, "").letters.map((letter) => this.#eventOf(letter).subject);
		expect(letters.sort()).toEqual(model.letters.map(({ subject }) => subject).sort());
		expect(this.letters.size).toBe(letters.length);
	}

	#eventOf(letter: DeadLetter): ModelEvent {
		return this.model.events[Number(fromBinary(EventSchema, deadEventOf(letter)!.event).subject)]!;
	}

	#held(session: ModelSession): number {
		return this.model.inFlight.filter(({ holder }) => holder === session).length;
	}

	#collect(session: ModelSession): void {
		for (let output = session.session.collect(); output !== undefined; output = session.session.collect()) {
			if (output.kind !== "deliveries") {
				expect(output.kind).toBe("caught-up");
				continue;
			}
			let before = -1;
			for (const { deliveryId, entry, attempt } of output.deliveries) {
				const { subject } = fromBinary(EventDeliverySchema, entry).event!;
				const event = this.model.events[Number(subject)]!;
				expect(this.model.eligible()).toContain(event);
				expect(Number(subject)).toBeGreaterThan(before);
				before = Number(subject);
				expect(attempt).toBe(++event.attempts);
				this.model.counts.delivered++;
				Object.assign(event, { state: "in-flight", holder: session, deliveryId, dueAt: this.model.now + ACK_WAIT });
			}
			expect(this.#held(session)).toBeLessThanOrEqual(session.credit);
			expect(this.model.inFlight.length).toBeLessThanOrEqual(MAX_IN_FLIGHT);
		}
	}

	async close(): Promise<void> {
		await this.bus[Symbol.asyncDispose]();
		expect(this.bus.attached).toBe(0);
		await this.state[Symbol.asyncDispose]();
		expect(this.clock.pendingTimers).toBe(0);
	}
}

test("a durable subscription does what a flat list does", { timeout: 60_000 }, async () => {
	await fc.assert(
		fc.asyncProperty(fc.array(step, { maxLength: 120, size: "max" }), async (steps) => {
			const rig = new Rig();
			await rig.open();
			await rig.create();
			for (const next of steps) {
				await rig.take(next);
				await rig.pull();
			}
			await rig.close();
		}),
		{ numRuns: 200 },
	);
});
