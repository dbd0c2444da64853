import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { expect, test } from "vitest";
import { DurableSubscriptionSchema } from "#gen/qirvo/hub/v1/durable_subscriptions_pb.js";
import { EventDeliverySchema, EventSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import type { DeadLetters } from "../../src/dead-letters/dead-letters.ts";
import type { ConsumerOutcome, ConsumerSession } from "../../src/events/durable/consumer-session.ts";
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
	state: "waiting" | "in-flight" | "settled" | "dead";
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
	now = 0;

	get inFlight(): ModelEvent[] {
		return this.events.filter(({ state }) => state === "in-flight");
	}

	/** Those that may be delivered: nothing of their key is unsettled before them, and their delay is over. */
	eligible(): ModelEvent[] {
		const blocked = new Set<string>();
		return this.events.filter((event) => {
			if (event.state === "settled" || event.state === "dead") return false;
			const isFirst = event.key === "" || !blocked.has(event.key);
			blocked.add(event.key);
			return isFirst && event.state === "waiting" && event.notBefore <= this.now;
		});
	}

	again(event: ModelEvent, delayMs: number | undefined): void {
		event.holder = undefined;
		if (event.attempts >= MAX_DELIVERIES) {
			event.state = "dead";
			return;
		}
		event.state = "waiting";
		event.notBefore = this.now + (delayMs ?? BACKOFF[Math.min(event.attempts, BACKOFF.length) - 1]!);
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

	leave(session: ModelSession): void {
		for (const event of this.inFlight) if (event.holder === session) this.again(event, 0);
	}
}

type Step =
	| { readonly kind: "emit"; readonly key: string }
	| { readonly kind: "join"; readonly credit: number }
	| { readonly kind: "leave" | "restart" }
	| { readonly kind: "advance"; readonly ms: number }
	| { readonly kind: "settle"; readonly pick: number; readonly outcome: ConsumerOutcome };

const outcome: fc.Arbitrary<ConsumerOutcome> = fc.constantFrom<ConsumerOutcome>(
	{ kind: "acknowledge" },
	{ kind: "acknowledge" },
	{ kind: "acknowledge" },
	{ kind: "negative", delayMs: undefined },
	{ kind: "negative", delayMs: 700 },
	{ kind: "terminate", reason: "no" },
	{ kind: "in-progress" },
);
const step: fc.Arbitrary<Step> = fc.oneof(
	{ weight: 6, arbitrary: fc.record({ kind: fc.constant("emit" as const), key: fc.constantFrom("", "", "a", "b") }) },
	{ weight: 6, arbitrary: fc.record({ kind: fc.constant("settle" as const), pick: fc.nat(50), outcome }) },
	{ weight: 2, arbitrary: fc.record({ kind: fc.constant("join" as const), credit: fc.integer({ min: 1, max: 4 }) }) },
	{ weight: 2, arbitrary: fc.record({ kind: fc.constant("advance" as const), ms: fc.constantFrom(100, 600, 2500) }) },
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
				model.events.push({ subject, key: step.key, holder: undefined, ...fresh });
				return;
			}
			case "join": {
				if (this.sessions.length === 3) return;
				const session = await this.bus.durable.consume(this.bus.durable.define("reader", "mine"), step.credit);
				this.sessions.push({ session, credit: step.credit });
				return;
			}
			case "leave": {
				const session = this.sessions.shift();
				if (session === undefined) return;
				session.session.close();
				model.leave(session);
				return;
			}
			case "restart":
				await this.bus[Symbol.asyncDispose]();
				for (const session of this.sessions) model.leave(session);
				this.sessions = [];
				await this.open();
				return;
			case "advance":
				model.advance(step.ms);
				await this.clock.advance(step.ms);
				return;
			case "settle": {
				const event = model.inFlight[step.pick % Math.max(1, model.inFlight.length)];
				if (event === undefined) return;
				event.holder!.session.settle(event.deliveryId, step.outcome);
				if (step.outcome.kind === "in-progress") event.dueAt = model.now + ACK_WAIT;
				if (step.outcome.kind === "acknowledge") event.state = "settled";
				if (step.outcome.kind === "terminate") event.state = "dead";
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
		const count = (state: ModelEvent["state"]) => model.events.filter((event) => event.state === state).length;
		expect(status).toMatchObject({
			inFlight: count("in-flight"),
			acknowledged: BigInt(count("settled")),
			dead: BigInt(count("dead")),
			delivered: BigInt(model.events.reduce((sum, { attempts }) => sum + attempts, 0)),
		});
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
		fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
			const rig = new Rig();
			await rig.open();
			await rig.create();
			for (const next of steps) {
				await rig.take(next);
				await rig.pull();
			}
			await rig.close();
		}),
		{ numRuns: 150 },
	);
});
