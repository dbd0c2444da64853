/**
 * What the hub itself costs an event, without a transport: from the bytes of an `EmitStreamRequest` to records for the
 * log, and from a flushed batch to subscribers' frames. Prints one JSON line a measure.
 * Usage: node bench/emit-path.ts
 */
import { create, toBinary } from "@bufbuild/protobuf";
import { EmitStreamRequestSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { randomIds, systemClock } from "../src/clock/system-clock.ts";
import { DeadLetters } from "../src/dead-letters/dead-letters.ts";
import { EventBus } from "../src/events/event-bus.ts";
import { EventIntake, type IntakeRecord } from "../src/events/event-intake.ts";
import { FirstAnswers } from "../src/idempotency/first-answers.ts";
import { CommitQueue } from "../src/state/commit-queue.ts";
import type { LogStore } from "../src/state/log-store.ts";
import { openMemoryState } from "../src/state/memory/open-memory-state.ts";
import type { StateBackend } from "../src/state/state-backend.ts";
import { parsePattern } from "../src/subjects/pattern.ts";

const BATCH = 100;
const BATCHES = 3000;
const ROUNDS = 5;

function report(name: string, events: number, ms: number): void {
	const nsPerEvent = Math.round((ms * 1e6) / events);
	console.log(JSON.stringify({ name, events, nsPerEvent, perSecond: Math.round((events / ms) * 1000) }));
}

function request(withIds: boolean, first: number): Uint8Array {
	const events = Array.from({ length: BATCH }, (_, index) => ({
		id: withIds ? `event-${(first + index).toString(36).padStart(10, "0")}` : "",
		type: `sensor.unit${index % 10}.changed`,
		time: { seconds: 1_900_000_000n, nanos: 5_000_000 },
		attributes: { traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" },
		payload: { body: { case: "json" as const, value: JSON.stringify({ text: "x".repeat(90) }) } },
	}));
	return toBinary(EmitStreamRequestSchema, create(EmitStreamRequestSchema, { batchId: 1n, events }));
}

const policy = { check() {}, spoofed() {} };
const requests = Array.from({ length: 50 }, (_, index) => request(true, index * BATCH));
const idless = request(false, 0);
console.log(JSON.stringify({ bytesPerEvent: Math.round(requests[0]!.byteLength / BATCH) }));

function intake(name: string, bytes: (index: number) => Uint8Array): void {
	const reader = new EventIntake("bench-publisher", randomIds);
	let best = Number.POSITIVE_INFINITY;
	for (let round = 0; round < ROUNDS; round++) {
		const start = performance.now();
		for (let index = 0; index < BATCHES; index++) reader.readBatch(bytes(index), policy);
		best = Math.min(best, performance.now() - start);
	}
	report(name, BATCHES * BATCH, best);
}

intake("scan, check and build, ids given", (index) => requests[index % requests.length]!);
intake("scan, check and build, ids made", () => idless);

function busOf({ kv }: StateBackend, log: LogStore): EventBus {
	const [clock, ids] = [systemClock, randomIds];
	const answers = new FirstAnswers({ kv, clock, ids });
	const letters = new DeadLetters({ kv, queue: new CommitQueue({ kv, clock, ids }), clock, ids });
	return new EventBus({ log, kv, clock, ids, answers, letters, onFault: console.error });
}

async function publish(subscriptions: number, name: string): Promise<void> {
	const state = openMemoryState({ clock: systemClock, ids: randomIds });
	const log = await state.log("events");
	const bus = busOf(state, log);
	bus.start();
	const total = 400 * BATCH;
	const readers: Promise<void>[] = [];
	for (let index = 0; index < subscriptions; index++) {
		const subscriber = { principal: `operator:o${index}`, pluginId: undefined };
		const patterns = [parsePattern("sensor.**", "patterns[0]")];
		const options = { patterns, priority: 0, filter: undefined, limit: total, idleTimeoutMs: undefined, live: true };
		const subscription = await bus.subscriptions.open(subscriber, { from: "new" }, options);
		readers.push(
			(async () => {
				for await (const _ of subscription.frames());
			})(),
		);
	}
	const reader = new EventIntake("bench-publisher", randomIds);
	const start = performance.now();
	for (let index = 0; index < 400; index++) {
		await bus.events.append(reader.readBatch(idless, policy).entries as readonly IntakeRecord[]);
	}
	await Promise.all(readers);
	report(name, total * Math.max(subscriptions, 1), performance.now() - start);
	await bus[Symbol.asyncDispose]();
	await state[Symbol.asyncDispose]();
}

for (const subscriptions of [0, 1, 200]) {
	for (let round = 0; round < 2; round++) await publish(subscriptions, `publish to ${subscriptions} subscriptions`);
}

{
	const state = openMemoryState({ clock: systemClock, ids: randomIds });
	const log = await state.log("events");
	const bus = busOf(state, log);
	bus.start();
	const reader = new EventIntake("bench-publisher", randomIds);
	for (let index = 0; index < 2000; index++) {
		await log.append(reader.readBatch(idless, policy).entries as readonly IntakeRecord[]);
	}
	const subscriber = { principal: "operator:o", pluginId: undefined };
	for (const pattern of ["**", "sensor.unit3.changed"]) {
		const patterns = [parsePattern(pattern, "patterns[0]")];
		const options = { patterns, priority: 0, filter: undefined, limit: 0, idleTimeoutMs: undefined, live: false };
		const subscription = await bus.subscriptions.open(subscriber, { from: "everything" }, options);
		const start = performance.now();
		for await (const _ of subscription.frames());
		report(`replay of ${pattern}`, subscription.delivered, performance.now() - start);
	}
	await bus[Symbol.asyncDispose]();
	await state[Symbol.asyncDispose]();
}
