import { create, fromBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { DeadEventSchema } from "#gen/qirvo/hub/v1/dead_event_pb.js";
import { DurableStartSchema } from "#gen/qirvo/hub/v1/durable_subscriptions_pb.js";
import { EventSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { deadEventOf, encodeDeadEvent } from "../../src/events/durable/dead-event.ts";
import { keys } from "../../src/state/key-layout.ts";
import { StorageError } from "../../src/state/kv-store.ts";
import { DurableRig, subjectsOf } from "../harness/durable-rig.ts";
import { refusal } from "../harness/refusal.ts";

const acknowledge = { kind: "acknowledge" } as const;
const any = { pluginId: "reader", name: "mine", expected: { kind: "any" } } as const;

test("an event that the log dropped comes back whole, over a restart, and leaves nothing behind", async () => {
	await using rig = await DurableRig.open();
	const [letter] = await rig.bury(1);
	await rig.emit(3000);
	await rig.bus.log.trim({ maxRecords: 10 });
	expect(rig.bus.log.bounds().first).toBeGreaterThan(deadEventOf(letter!)!.sequence);
	await rig.bus.durable.redrive(letter!);
	expect(rig.buried).toEqual([]);
	await expect.poll(() => rig.bus.durable.totals.groups).toBe(0);
	await rig.restart();
	expect(rig.buried).toEqual([]);
	const session = await rig.consume(1);
	const [delivery] = await rig.deliveries(session);
	expect(subjectsOf([delivery!])).toEqual(["0"]);
	expect(delivery!.attempt).toBe(1);
	expect(delivery!.entry.subarray(-deadEventOf(letter!)!.event.byteLength)).toEqual(deadEventOf(letter!)!.event);
	session.settle(delivery!.deliveryId, acknowledge);
	await session.stored();
	expect(rig.returned).toBe(0);
	session.close();
	await rig.restart();
	const after = await rig.consume(1);
	expect(subjectsOf(await rig.deliveries(after))).not.toContain("0");
	after.close();
});

test("an event that comes back is delivered as often as a new one, and is then a dead letter again", async () => {
	await using rig = await DurableRig.open();
	const [letter] = await rig.bury(1);
	await rig.bus.durable.redrive(letter!);
	const session = await rig.consume(1);
	const attempts: number[] = [];
	for (let round = 0; round < 6; round++) {
		for (const { deliveryId, attempt } of await rig.deliveries(session)) {
			attempts.push(attempt);
			session.settle(deliveryId, { kind: "negative", delayMs: undefined });
		}
	}
	expect(attempts).toEqual([1, 2, 3, 4, 5]);
	expect(rig.lettersNow()).toMatchObject([{ attempts: 5, reason: "not acknowledged in 5 deliveries" }]);
	expect(rig.lettersNow()[0]!.id).not.toBe(letter!.id);
	expect(deadEventOf(rig.lettersNow()[0]!)).toEqual(deadEventOf(letter!));
	expect(rig.returned).toBe(0);
	session.close();
});

test("an event that comes back waits for the one of its key that is under way, and goes before the others", async () => {
	await using rig = await DurableRig.open();
	const [letter] = await rig.bury(1, "k");
	await rig.emit(3, "k");
	const session = await rig.consume(10);
	let [delivery] = await rig.deliveries(session);
	expect(subjectsOf([delivery!])).toEqual(["1"]);
	await rig.bus.durable.redrive(letter!);
	expect(await rig.deliveries(session)).toEqual([]);
	const order: string[] = [];
	for (; delivery !== undefined; [delivery] = await rig.deliveries(session)) {
		order.push(...subjectsOf([delivery]));
		session.settle(delivery.deliveryId, acknowledge);
	}
	expect(order).toEqual(["1", "0", "2", "3"]);
	session.close();
});

test("where it cannot be stored that an event is back, it stays a letter and is not delivered", async () => {
	await using rig = await DurableRig.open();
	const [letter] = await rig.bury(1);
	rig.failure = new StorageError("full", "not-written", "no room");
	expect((await refusal(rig.bus.durable.redrive(letter!))).reason).toBe("STORAGE_FULL");
	rig.failure = undefined;
	expect(rig.buried).toEqual(["0"]);
	const session = await rig.consume(10);
	expect(await rig.deliveries(session)).toEqual([]);
	await rig.bus.durable.redrive(letter!);
	expect(subjectsOf(await rig.deliveries(session))).toEqual(["0"]);
	session.close();
});

test("the oldest letters make room, also for those of their own commit", async () => {
	await using rig = await DurableRig.open({ letters: 3, bytes: 100_000 });
	await rig.bury(8);
	expect(rig.buried).toEqual(["5", "6", "7"]);
	expect([rig.letters.parked, rig.letters.dropped, rig.letters.size]).toEqual([8, 5, 3]);
	await rig.restart();
	expect(rig.buried).toEqual(["5", "6", "7"]);
	expect(rig.letters.size).toBe(3);
});

test("many that are given up at once are all kept, however many make room for them", async () => {
	await using rig = await DurableRig.open({ letters: 700, bytes: 10_000_000 });
	await rig.bury(700);
	await rig.bury(700);
	expect(rig.buried).toEqual(Array.from({ length: 700 }, (_, index) => String(700 + index)));
	expect(rig.bus.durable.get("reader", "mine").status?.dead).toBe(1400n);
});

test("so many events may be back and not settled, and no more", async () => {
	await using rig = await DurableRig.open();
	await rig.bury(1001);
	const page = rig.lettersNow();
	const all = [...page, ...rig.letters.list("reader", 1000, `reader/${page.at(-1)!.id}`).letters];
	expect(all.length).toBe(1001);
	const outcomes = await Promise.allSettled(all.map((letter) => rig.bus.durable.redrive(letter)));
	const refused = outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason.reason] : []));
	expect(refused).toEqual(["LIMIT_EXCEEDED"]);
	expect(rig.buried).toEqual(["1000"]);
	expect(rig.returned).toBe(1000);
	const session = await rig.consume(10_000);
	const deliveries = await rig.deliveries(session);
	expect(subjectsOf(deliveries)).toEqual(Array.from({ length: 1000 }, (_, index) => String(index)));
	for (const { deliveryId } of deliveries) session.settle(deliveryId, acknowledge);
	await session.stored();
	await rig.bus.durable.redrive(all.at(-1)!);
	expect(subjectsOf(await rig.deliveries(session))).toEqual(["1000"]);
	session.close();
	await rig.clock.advance(0);
	expect(rig.returned).toBe(1);
});

test("letters outlive their subscription, and go back to no other of its name", async () => {
	await using rig = await DurableRig.open();
	const [first, second] = await rig.bury(2);
	await rig.bus.durable.redrive(first!);
	await rig.bus.durable.delete(any);
	expect(rig.returned).toBe(0);
	expect(rig.buried).toEqual(["1"]);
	expect((await refusal(rig.bus.durable.redrive(second!))).reason).toBe("SUBSCRIPTION_NOT_FOUND");
	await rig.create();
	expect((await refusal(rig.bus.durable.redrive(second!))).reason).toBe("SUBSCRIPTION_NOT_FOUND");
	expect(rig.buried).toEqual(["1"]);
	await expect.poll(() => rig.bus.durable.totals.groups).toBe(0);
	await rig.letters.delete("reader", second!.id);
	expect(rig.buried).toEqual([]);
});

test("a reset forgets what is back, and letters may come back after it", async () => {
	await using rig = await DurableRig.open();
	const [first, second] = await rig.bury(2);
	await rig.bus.durable.redrive(first!);
	const shownStart = create(DurableStartSchema);
	await rig.bus.durable.reset({ ...any, start: { from: "new" }, shownStart });
	expect(rig.returned).toBe(0);
	const session = await rig.consume(10);
	expect(await rig.deliveries(session)).toEqual([]);
	await rig.bus.durable.redrive(second!);
	expect(subjectsOf(await rig.deliveries(session))).toEqual(["1"]);
	session.close();
});

test("a delete or reset that is stored succeeds where the events that were put back cannot be removed at once", async () => {
	await using rig = await DurableRig.open();
	const [first, second] = await rig.bury(2);
	await rig.bus.durable.redrive(first!);
	rig.failing = ({ writes }) => writes.some(({ key }) => key.startsWith("subscription/returned/"));
	rig.failure = new StorageError("unavailable", "not-written", "the disk is away");
	const shownStart = create(DurableStartSchema);
	const { subscription } = await rig.bus.durable.reset({ ...any, start: { from: "new" }, shownStart });
	expect(subscription.revision).toBe(rig.bus.durable.get("reader", "mine").revision);
	expect(rig.returned).toBe(1);
	rig.failure = undefined;
	await rig.clock.advance(500);
	await expect.poll(() => rig.returned).toBe(0);
	await rig.bus.durable.redrive(second!);
	rig.failure = new StorageError("unavailable", "not-written", "the disk is away");
	expect(await rig.bus.durable.delete(any)).toBe(false);
	expect(() => rig.bus.durable.get("reader", "mine")).toThrow(`no durable subscription "mine"`);
	// It is tried again as often as it fails.
	for (let round = 0; round < 3; round++) await rig.clock.advance(500);
	expect(rig.returned).toBe(1);
	rig.failure = undefined;
	await rig.clock.advance(500);
	await expect.poll(() => rig.returned).toBe(0);
});

test("an event that a reset has made due anyway comes once", async () => {
	await using rig = await DurableRig.open();
	const [letter] = await rig.bury(1);
	await rig.bus.durable.reset({ ...any, start: { from: "everything" }, shownStart: create(DurableStartSchema) });
	await rig.bus.durable.redrive(letter!);
	expect(rig.buried).toEqual([]);
	const session = await rig.consume(10);
	expect(subjectsOf(await rig.deliveries(session))).toEqual(["0"]);
	session.close();
});

test("a plugin that is gone leaves no more letters, and nothing that is back", async () => {
	await using rig = await DurableRig.open();
	const [letter] = await rig.bury(1);
	await rig.bus.durable.redrive(letter!);
	await rig.emit(1);
	const session = await rig.consume(10);
	const deliveries = await rig.deliveries(session);
	expect(deliveries.length).toBe(2);
	// Its subscriptions are removed a little later than its letters.
	rig.deaf = true;
	await rig.kv.commit({ id: rig.ids.next(), writes: [{ key: keys.registration("reader"), delete: true }] });
	for (const { deliveryId } of deliveries) session.settle(deliveryId, { kind: "terminate", reason: "" });
	expect((await refusal(session.stored())).reason).toBe("SUBSCRIPTION_RESET");
	await rig.register();
	expect(rig.letters.size).toBe(0);
	expect(rig.returned).toBe(1);
	await rig.restart();
	await expect.poll(() => rig.returned).toBe(0);
});

test("what a hub that stopped did not remove is removed by the next one", async () => {
	await using rig = await DurableRig.open();
	const key = "subscription/returned/reader/mine/1/00000000000001";
	await rig.kv.commit({ id: rig.ids.next(), writes: [{ key, value: Buffer.from("stray") }] });
	const [letter] = await rig.bury(1);
	await rig.bus.durable.redrive(letter!);
	expect(rig.returned).toBe(2);
	await rig.restart();
	await expect.poll(() => rig.returned).toBe(1);
	const session = await rig.consume(10);
	expect(subjectsOf(await rig.deliveries(session))).toEqual(["0"]);
	session.close();
});

test("an event of another numbering of the log does not come back, and its letter stays", async () => {
	await using rig = await DurableRig.open();
	const [letter] = await rig.bury(1);
	const dead = deadEventOf(letter!)!;
	expect(fromBinary(EventSchema, dead.event).sequence).toBe(BigInt(dead.sequence));
	const item = encodeDeadEvent({ ...dead, epoch: "another" });
	const change = rig.letters.park({ ...letter!, item });
	await rig.kv.commit({ id: rig.ids.next(), writes: change.writes });
	change.settled(true);
	const other = rig.lettersNow()[1]!;
	expect((await refusal(rig.bus.durable.redrive(other))).reason).toBe("POSITION_TRIMMED");
	expect(rig.buried).toEqual(["0", "0"]);
	await expect.poll(() => rig.bus.durable.totals.groups).toBe(0);
});

test("what a dead event shares with an event has the same names and numbers", () => {
	for (const { number, name, fieldKind } of EventSchema.fields) {
		expect(DeadEventSchema.fields.find((field) => field.number === number)).toMatchObject({ name, fieldKind });
	}
});

test("of a group that failed and the one after it only one goes on", async () => {
	await using rig = await DurableRig.open();
	const [letter] = await rig.bury(1);
	await rig.emit(1);
	const { promise, resolve } = Promise.withResolvers<void>();
	rig.held = promise;
	const redriven = rig.bus.durable.redrive(letter!);
	await rig.clock.advance(0);
	rig.unreadable = true;
	const failed = await rig.consume(10);
	await expect.poll(() => rig.bus.durable.totals.groups).toBe(0);
	failed.close();
	rig.unreadable = false;
	// It begins with what is stored before the first one's commit comes through.
	const stale = await rig.consume(10);
	rig.held = undefined;
	resolve();
	await redriven;
	const [delivery] = await rig.deliveries(stale);
	expect(subjectsOf([delivery!])).toEqual(["1"]);
	stale.settle(delivery!.deliveryId, { kind: "terminate", reason: "" });
	expect((await refusal(stale.stored())).reason).toBe("SUBSCRIPTION_RESET");
	const session = await rig.consume(10);
	expect(subjectsOf(await rig.deliveries(session))).toEqual(["0", "1"]);
	expect(rig.buried).toEqual([]);
	session.close();
});

test("a hub that stops makes no event a dead letter: its last delivery has not failed", async () => {
	await using rig = await DurableRig.open();
	await rig.emit(1);
	for (let attempt = 1; attempt < 5; attempt++) {
		const session = await rig.consume(10);
		expect(await rig.deliveries(session)).toMatchObject([{ attempt }]);
		session.close();
		await rig.clock.advance(0);
	}
	for (let restarts = 0; restarts < 2; restarts++) {
		expect(await rig.deliveries(await rig.consume(10))).toMatchObject([{ attempt: 5 }]);
		await rig.restart();
	}
	expect(rig.buried).toEqual([]);
	const session = await rig.consume(10);
	expect(await rig.deliveries(session)).toMatchObject([{ attempt: 5 }]);
	session.close();
	await session.stored();
	expect(rig.buried).toEqual(["0"]);
});
