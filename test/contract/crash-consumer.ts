/**
 * Publishes to and consumes a durable subscription on the state in the folder given, and tells what it does line by line
 * on standard output: `emitted n` and `confirmed n` after the fact, `delivered n` before it settles. Run by the crash test,
 * which kills it. With `drain` it only consumes, and ends once nothing is left. Usage: crash-consumer.ts folder first [drain]
 */
import { writeSync } from "node:fs";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { DurableSubscriptionSchema } from "#gen/qirvo/hub/v1/durable_subscriptions_pb.js";
import { EventDeliverySchema, EventSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { systemClock as clock, randomIds as ids } from "../../src/clock/system-clock.ts";
import type { ConsumerSession } from "../../src/events/durable/consumer-session.ts";
import { EventBus } from "../../src/events/event-bus.ts";
import { FirstAnswers } from "../../src/idempotency/first-answers.ts";
import { openEmbeddedState } from "../../src/state/embedded/open-embedded-state.ts";
import { keys } from "../../src/state/key-layout.ts";
import { openLetters } from "../harness/open-letters.ts";

const [, , directory, first, mode] = process.argv;
if (directory === undefined || first === undefined) throw new Error("usage: crash-consumer.ts folder first [drain]");

const KEYS = 7;
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
bus.start();

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
		if (bus.durable.get("reader", "mine").status?.lag !== 0n) return;
		clearInterval(timer);
		setTimeout(() => process.exit(0), 50);
	}, 20);
	await consume();
} else {
	await Promise.all([emit(), consume()]);
}
