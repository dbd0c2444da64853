/**
 * Publishes to and consumes a durable subscription on the state in the folder given, gives events up and puts them back,
 * and tells what it does line by line on standard output: `emitted n`, `confirmed n`, `dead n` and `returned n` after the
 * fact, `delivered n` before it settles, `returning n` before it is put back; and `problem text` where what it finds at its
 * start does not fit together. Run by the crash test, which kills it. With `drain` it gives nothing up, and ends once
 * nothing is left. Usage: crash-consumer.ts folder first [drain]
 */
import { writeSync } from "node:fs";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { DurableSubscriptionSchema } from "#gen/qirvo/hub/v1/durable_subscriptions_pb.js";
import { EventDeliverySchema, EventSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { systemClock as clock, randomIds as ids } from "../../src/clock/system-clock.ts";
import type { DeadLetter } from "../../src/dead-letters/dead-letters.ts";
import type { ConsumerSession } from "../../src/events/durable/consumer-session.ts";
import { deadEventOf } from "../../src/events/durable/dead-event.ts";
import { decodeProgress } from "../../src/events/durable/durable-progress.ts";
import { EventBus } from "../../src/events/event-bus.ts";
import { FirstAnswers } from "../../src/idempotency/first-answers.ts";
import { openEmbeddedState } from "../../src/state/embedded/open-embedded-state.ts";
import { keys } from "../../src/state/key-layout.ts";
import { openLetters } from "../harness/open-letters.ts";

const [, , directory, first, mode] = process.argv;
if (directory === undefined || first === undefined) throw new Error("usage: crash-consumer.ts folder first [drain]");

const KEYS = 7;
/** Events that were given up and were not told of yet. */
const untold = new Set<string>();
const state = await openEmbeddedState({ directory, clock, ids });
const { kv } = state;
const log = await state.log("events");
const answers = new FirstAnswers({ kv, clock, ids });
const letters = openLetters({ kv, clock, ids });
const bus = new EventBus({ kv, log, clock, ids, answers, letters, onFault: (_, error) => console.error(error) });
/** Keeps the process alive while nothing but the database has work, as a hub's sockets do. */
setInterval(() => {}, 60_000);
if (kv.get(keys.registration("reader")) === undefined) {
	await kv.commit({ id: ids.next(), writes: [{ key: keys.registration("reader"), value: Buffer.from("registered") }] });
	const shown = create(DurableSubscriptionSchema, {
		name: "mine",
		patterns: ["n"],
		start: { from: { case: "everything", value: true } },
		maxDeliveries: 1000,
		maxInFlight: 1000,
	});
	await bus.durable.create({ pluginId: "reader", shown, start: { from: "everything" } });
}
checkStored();
bus.start();

/** An event is due, or a letter; and what is stored beside the log is due. */
function checkStored(): void {
	const stored = kv.get("subscription/progress/reader/mine");
	const due = new Set(stored && decodeProgress(stored.value).unsettled.map(({ sequence }) => sequence));
	const dead = new Set<number>();
	for (const letter of allLetters()) {
		const { sequence } = deadEventOf(letter)!;
		if (due.has(sequence)) writeSync(1, `problem ${sequence} is due and a letter\n`);
		if (dead.has(sequence)) writeSync(1, `problem ${sequence} is two letters\n`);
		dead.add(sequence);
	}
	for (const { key } of kv.range({ start: "subscription/returned/", end: "subscription/returned0", limit: 1000 })
		.entries) {
		const sequence = Number.parseInt(key.slice(-14), 16);
		if (!due.has(sequence)) writeSync(1, `problem ${sequence} is stored and not due\n`);
	}
}

function allLetters(): DeadLetter[] {
	const all: DeadLetter[] = [];
	for (let cursor = ""; ; ) {
		const page = letters.list("reader", 1000, cursor);
		all.push(...page.letters);
		if (page.next === "") return all;
		cursor = page.next;
	}
}

async function putBack(): Promise<never> {
	for (;;) {
		await Promise.all(
			allLetters().map(async (letter) => {
				if (mode !== "drain" && Math.random() < 0.3) return;
				const { subject } = fromBinary(EventSchema, deadEventOf(letter)!.event);
				if (untold.has(subject)) return;
				writeSync(1, `returning ${subject}\n`);
				await bus.durable.redrive(letter);
				writeSync(1, `returned ${subject}\n`);
			}),
		);
		await new Promise((resolve) => setTimeout(resolve, 3));
	}
}

async function emit(): Promise<never> {
	for (let n = Number(first); ; n += 10) {
		const batch = Array.from({ length: 10 }, (_, index) => n + index);
		await log.append(
			batch.map((number) => ({
				id: `reader/${number}`,
				topic: "n",
				bytes: toBinary(
					EventSchema,
					create(EventSchema, { type: "n", subject: `${number}`, orderingKey: `${number % KEYS}` }),
				),
			})),
		);
		writeSync(1, batch.map((number) => `emitted ${number}\n`).join(""));
		await new Promise((resolve) => setImmediate(resolve));
	}
}

/** Settles each delivery a little later, in no particular order. */
function settle(session: ConsumerSession, deliveryId: string, subject: string): void {
	setTimeout(() => {
		if (Math.random() < 0.1) {
			session.settle(deliveryId, { kind: "negative", delayMs: undefined });
			return;
		}
		if (mode !== "drain" && Math.random() < 0.2) {
			session.settle(deliveryId, { kind: "terminate", reason: "by chance" });
			untold.add(subject);
			void session.stored().then(() => {
				writeSync(1, `dead ${subject}\n`);
				untold.delete(subject);
			});
			return;
		}
		session.settle(deliveryId, { kind: "acknowledge" });
		void session.stored().then(() => writeSync(1, `confirmed ${subject}\n`));
	}, Math.random() * 5);
}

async function consume(): Promise<never> {
	const session = await bus.durable.consume(bus.durable.define("reader", "mine"), 200);
	let wake = () => {};
	session.listen({ wake: () => wake(), closed: (error) => console.error(error) });
	for (;;) {
		const output = session.collect();
		if (output?.kind === "deliveries") {
			for (const { deliveryId, entry } of output.deliveries) {
				const { subject } = fromBinary(EventDeliverySchema, entry).event!;
				writeSync(1, `delivered ${subject}\n`);
				settle(session, deliveryId, subject);
			}
		} else if (output === undefined) {
			await new Promise<void>((resolve) => {
				wake = resolve;
			});
		}
	}
}

if (mode === "drain") {
	const timer = setInterval(() => {
		if (letters.size > 0 || bus.durable.get("reader", "mine").status?.lag !== 0n) return;
		clearInterval(timer);
		setTimeout(() => process.exit(0), 50);
	}, 20);
	await Promise.all([putBack(), consume()]);
} else {
	await Promise.all([emit(), putBack(), consume()]);
}
