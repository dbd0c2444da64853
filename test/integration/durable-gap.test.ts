import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { DurableSubscriptionSchema } from "#gen/qirvo/hub/v1/durable_subscriptions_pb.js";
import { EventDeliverySchema, EventSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import type { ConsumerOutput, ConsumerSession } from "../../src/events/durable/consumer-session.ts";
import { EventBus } from "../../src/events/event-bus.ts";
import type { HubError } from "../../src/hub-error.ts";
import { FirstAnswers } from "../../src/idempotency/first-answers.ts";
import { keys } from "../../src/state/key-layout.ts";
import { StorageError } from "../../src/state/kv-store.ts";
import { openMemoryState } from "../../src/state/memory/open-memory-state.ts";
import { FakeClock, SequentialIds } from "../harness/fake-clock.ts";
import { wrapKv } from "../harness/kv-wrapper.ts";
import { openLetters } from "../harness/open-letters.ts";

class Rig implements AsyncDisposable {
	readonly clock = new FakeClock();
	readonly ids = new SequentialIds();
	readonly state = openMemoryState({ clock: this.clock, ids: this.ids });
	failing = false;
	bus!: EventBus;
	#emitted = 0;

	static async open(): Promise<Rig> {
		const rig = new Rig();
		const { clock, ids, state } = rig;
		const kv = wrapKv(state.kv, {
			commit: (commit) =>
				rig.failing ? Promise.reject(new StorageError("full", "not-written", "no room")) : state.kv.commit(commit),
		});
		const answers = new FirstAnswers({ kv, clock, ids });
		const log = await state.log("events");
		const letters = openLetters({ kv, clock, ids });
		rig.bus = new EventBus({ kv, log, clock, ids, answers, letters, onFault: () => {} });
		rig.bus.start();
		await kv.commit({ id: ids.next(), writes: [{ key: keys.registration("reader"), value: Buffer.from("there") }] });
		const shown = create(DurableSubscriptionSchema, {
			name: "mine",
			patterns: ["n"],
			start: { from: { case: "everything", value: true } },
			maxDeliveries: 5,
			maxInFlight: 10_000,
		});
		await rig.bus.durable.create({ pluginId: "reader", shown, start: { from: "everything" } });
		return rig;
	}

	async emit(count: number): Promise<void> {
		const records = Array.from({ length: count }, () => {
			const subject = String(this.#emitted++);
			return {
				id: `x/${subject}`,
				topic: "n",
				bytes: toBinary(EventSchema, create(EventSchema, { type: "n", subject })),
			};
		});
		await this.bus.log.append(records);
	}

	consume(maxInFlight: number): Promise<ConsumerSession> {
		return this.bus.durable.consume(this.bus.durable.define("reader", "mine"), maxInFlight);
	}

	async collect(session: ConsumerSession): Promise<ConsumerOutput[]> {
		const outputs: ConsumerOutput[] = [];
		for (let round = 0; round < 60; round++) {
			await this.clock.advance(0);
			for (let output = session.collect(); output !== undefined; output = session.collect()) outputs.push(output);
		}
		return outputs;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.bus[Symbol.asyncDispose]();
		await this.state[Symbol.asyncDispose]();
		expect(this.clock.pendingTimers).toBe(0);
	}
}

function subjects(outputs: readonly ConsumerOutput[]): string[] {
	return outputs.flatMap((output) =>
		output.kind === "deliveries"
			? output.deliveries.map(({ entry }) => fromBinary(EventDeliverySchema, entry).event!.subject)
			: [],
	);
}

test("says what retention dropped, and goes on with the oldest event there is", async () => {
	await using rig = await Rig.open();
	for (let batch = 0; batch < 5; batch++) await rig.emit(1000);
	const first = await rig.consume(2);
	expect(subjects(await rig.collect(first))).toEqual(["0", "1"]);
	first.settle("1", { kind: "acknowledge" });
	await first.stored();
	first.close();
	await rig.clock.advance(0);
	await rig.bus.log.trim({ maxRecords: 500 });
	const oldest = rig.bus.log.bounds().first;
	expect(oldest).toBeGreaterThan(1000);
	const second = await rig.consume(10_000);
	const outputs = await rig.collect(second);
	const lost = outputs.reduce((sum, output) => sum + (output.kind === "lost" ? output.lost : 0), 0);
	// The first is acknowledged; the second was delivered and the rest was not, up to the oldest that is kept.
	expect(lost).toBe(oldest - 2);
	expect(subjects(outputs)).toEqual(Array.from({ length: 5001 - oldest }, (_, index) => String(oldest - 1 + index)));
	expect(rig.bus.durable.get("reader", "mine").status?.lost).toBe(BigInt(lost));
	second.close();
});

test("confirms nothing that it could not store, and delivers it again", async () => {
	await using rig = await Rig.open();
	await rig.emit(3);
	const first = await rig.consume(10);
	expect(subjects(await rig.collect(first))).toEqual(["0", "1", "2"]);
	const ended: string[] = [];
	first.listen({ wake: () => {}, closed: (error: HubError) => ended.push(error.reason) });
	rig.failing = true;
	first.settle("2", { kind: "acknowledge" });
	await expect(first.stored()).rejects.toMatchObject({ reason: "STORAGE_FULL" });
	expect(ended).toEqual(["STORAGE_FULL"]);
	rig.failing = false;
	const second = await rig.consume(10);
	expect(subjects(await rig.collect(second))).toEqual(["0", "1", "2"]);
	second.close();
});

test("gives every consumer a share, and the order of the log to one alone", async () => {
	await using rig = await Rig.open();
	const [one, two] = [await rig.consume(100), await rig.consume(100)];
	await rig.collect(one);
	await rig.collect(two);
	await rig.emit(40);
	for (let round = 0; round < 10; round++) await rig.clock.advance(0);
	const shares = [one, two].map((session) => subjects([session.collect()!]).length);
	expect(shares).toEqual([20, 20]);
	one.close();
	two.close();
	await rig.clock.advance(0);
	const alone = await rig.consume(100);
	expect(subjects(await rig.collect(alone))).toEqual(Array.from({ length: 40 }, (_, index) => String(index)));
	alone.close();
});
