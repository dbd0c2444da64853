import { fromBinary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { ChangeCause, EntrySchema } from "#gen/qirvo/hub/v1/entries_pb.js";
import { HubError } from "../../src/hub-error.ts";
import { refused } from "../harness/refused.ts";
import { backends } from "../harness/state-backends.ts";
import { ABSENT, append, at, check, EXISTS, increment, StoreWorld, set, textOf } from "../harness/store-world.ts";

describe.each(backends)("entries on $name", (backend) => {
	test("are written, read, replaced and deleted, with what the hub stamps on them", async () => {
		await using world = await StoreWorld.open(backend);
		const store = await world.create("s");
		const made = await world.set(store, "k", 1);
		expect(made).toMatchObject({ changed: true, duplicate: false });
		const first = world.get(store, "k")!;
		expect(first).toMatchObject({ key: "k", writer: "owner", instanceId: "" });
		expect([first.revision, first.createRevision]).toEqual([BigInt(made.revision), BigInt(made.revision)]);
		expect(first.createTime).toEqual(first.updateTime);
		await world.clock.advance(1500);
		const replaced = await world.write(set(store, "k", 2, { returnPrevious: true }), "other");
		expect(textOf(fromBinary(EntrySchema, replaced.previous!))).toBe("1");
		const second = world.get(store, "k")!;
		expect(second).toMatchObject({ writer: "other", createTime: first.createTime, createRevision: first.revision });
		expect(textOf(second)).toBe("2");
		expect(second.updateTime).not.toEqual(first.updateTime);
		expect(store.usage()).toEqual({ keys: 1, bytes: 2 });
		const deleted = await world.delete(store, "k");
		expect(deleted.revision).toBeGreaterThan(replaced.revision);
		expect(world.get(store, "k")).toBeUndefined();
		expect(await world.delete(store, "k")).toMatchObject({ revision: 0, changed: false });
		expect(store.usage()).toEqual({ keys: 0, bytes: 0 });
		await world.restart();
		expect(world.faults).toEqual([]);
	});

	test("say all that did not hold, and change nothing then", async () => {
		await using world = await StoreWorld.open(backend);
		const store = await world.create("s");
		const { revision } = await world.set(store, "a", 1);
		const failing = world.submit({
			checks: [check(store, "a", ABSENT), check(store, "b", EXISTS), check(store, "a", EXISTS)],
			writes: [set(store, "c", 1), set(store, "d", 1, { expected: at(7) })],
		});
		await expect(failing).rejects.toEqual(refused("REVISION_MISMATCH"));
		const error = await failing.catch((thrown: unknown) => thrown);
		expect(error instanceof HubError && error.options.failedChecks).toEqual([
			{ store: "s", key: "a", expected: ABSENT, actual: revision },
			{ store: "s", key: "b", expected: EXISTS, actual: 0 },
			{ store: "s", key: "d", expected: at(7), actual: 0 },
		]);
		expect(world.get(store, "c")).toBeUndefined();
	});

	test("count, and gather without doubles", async () => {
		await using world = await StoreWorld.open(backend);
		const store = await world.create("s");
		const counts = await Promise.all(Array.from({ length: 20 }, () => world.write(increment(store, "n", 3))));
		expect(counts.map(({ number }) => number)).toEqual(Array.from({ length: 20 }, (_, index) => 3 * (index + 1)));
		expect((await world.write(append(store, "list", { a: 1, b: 2 }))).changed).toBe(true);
		expect(await world.write(append(store, "list", { b: 2, a: 1 }))).toMatchObject({ changed: false, revision: 0 });
		expect(textOf(world.get(store, "list"))).toBe('[{"a":1,"b":2}]');
		await expect(world.write(increment(store, "list", 1))).rejects.toEqual(refused("VALUE_MISMATCH"));
	});

	test("end by themselves, and are not seen from that moment on", async () => {
		await using world = await StoreWorld.open(backend);
		const store = await world.create("s", { history: 4 });
		world.leases.live.add("owner/i");
		await world.set(store, "a", 1, { ttlMs: 1000 });
		await world.set(store, "b", 1, { instanceId: "i" });
		await expect(world.set(store, "c", 1, { instanceId: "j" })).rejects.toEqual(refused("INSTANCE_NOT_FOUND"));
		world.clock.stepWall(1000);
		expect(world.get(store, "a")).toBeUndefined();
		expect(world.list(store).entries.map(({ key }) => key)).toEqual(["b"]);
		world.clock.stepWall(-1000);
		await world.clock.advance(1000);
		world.leases.end("owner", "i");
		expect(world.list(store).entries).toEqual([]);
		await world.stores.idle();
		expect(store.usage()).toEqual({ keys: 0, bytes: 0 });
		const causes = (key: string) => world.history(store, key).map(({ cause, actor }) => [cause, actor]);
		expect(causes("a")).toEqual([
			[ChangeCause.EXPIRED, ""],
			[ChangeCause.SET, "owner"],
		]);
		expect(causes("b")[0]).toEqual([ChangeCause.LEASE_ENDED, ""]);
		expect(world.state.kv.range({ start: "store/expiry/", end: "store/lease0", limit: 10 }).entries).toEqual([]);
	});

	test("answer a repeated request as the first time", async () => {
		await using world = await StoreWorld.open(backend);
		for (const persistent of [true, false]) {
			const store = await world.create(`s-${persistent}`, { persistent });
			const request = {
				principal: "plugin:owner",
				method: `inc-${persistent}`,
				requestId: "1",
				digest: Buffer.from("d"),
			};
			const first = await world.write(increment(store, "n", 5), "owner", request);
			const both = await Promise.all([
				world.write(increment(store, "n", 5), "owner", request),
				world.write(increment(store, "n", 5), "owner", request),
			]);
			for (const again of both) expect(again).toEqual({ ...first, duplicate: true });
			const other = { ...request, digest: Buffer.from("e") };
			await expect(world.write(increment(store, "n", 1), "owner", other)).rejects.toEqual(refused("ID_REUSED"));
			expect(textOf(world.get(store, "n"))).toBe("5");
			if (persistent) {
				await world.restart();
				expect(await world.write(increment(store, "n", 5), "owner", request)).toEqual({ ...first, duplicate: true });
			}
		}
	});
});

test("an entry's wire form has all that is in it", async () => {
	await using world = await StoreWorld.open();
	const store = await world.create("s");
	await world.set(store, "k", { a: "é" }, { ttlMs: 12_345 });
	const entry = world.get(store, "k")!;
	expect(entry.expireTime).toMatchObject({ seconds: 1_893_456_012n, nanos: 345_000_000 });
	const [bare] = world.list(store, { keysOnly: true }).entries;
	expect(bare).toEqual({ ...entry, value: undefined });
});
