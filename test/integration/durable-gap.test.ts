import { expect, test } from "vitest";
import type { HubError } from "../../src/hub-error.ts";
import { StorageError } from "../../src/state/kv-store.ts";
import { DurableRig, deliveriesOf, subjectsOf } from "../harness/durable-rig.ts";

test("says what retention dropped, and goes on with the oldest event there is", async () => {
	await using rig = await DurableRig.open();
	for (let batch = 0; batch < 5; batch++) await rig.emit(1000);
	const first = await rig.consume(2);
	expect(subjectsOf(await rig.deliveries(first))).toEqual(["0", "1"]);
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
	expect(subjectsOf(deliveriesOf(outputs))).toEqual(
		Array.from({ length: 5001 - oldest }, (_, index) => String(oldest - 1 + index)),
	);
	expect(rig.bus.durable.get("reader", "mine").status?.lost).toBe(BigInt(lost));
	second.close();
});

test("confirms nothing that it could not store, and delivers it again", async () => {
	await using rig = await DurableRig.open();
	await rig.emit(3);
	const first = await rig.consume(10);
	expect(subjectsOf(await rig.deliveries(first))).toEqual(["0", "1", "2"]);
	const ended: string[] = [];
	first.listen({ wake: () => {}, closed: (error: HubError) => ended.push(error.reason) });
	rig.failure = new StorageError("full", "not-written", "no room");
	first.settle("2", { kind: "acknowledge" });
	await expect(first.stored()).rejects.toMatchObject({ reason: "STORAGE_FULL" });
	expect(ended).toEqual(["STORAGE_FULL"]);
	rig.failure = undefined;
	const second = await rig.consume(10);
	expect(subjectsOf(await rig.deliveries(second))).toEqual(["0", "1", "2"]);
	second.close();
});

test("gives every consumer a share, and the order of the log to one alone", async () => {
	await using rig = await DurableRig.open();
	const [one, two] = [await rig.consume(100), await rig.consume(100)];
	await rig.collect(one);
	await rig.collect(two);
	await rig.emit(40);
	for (let round = 0; round < 10; round++) await rig.clock.advance(0);
	const shares = [one, two].map((session) => subjectsOf(deliveriesOf([session.collect()!])).length);
	expect(shares).toEqual([20, 20]);
	one.close();
	two.close();
	await rig.clock.advance(0);
	const alone = await rig.consume(100);
	expect(subjectsOf(await rig.deliveries(alone))).toEqual(Array.from({ length: 40 }, (_, index) => String(index)));
	alone.close();
});
