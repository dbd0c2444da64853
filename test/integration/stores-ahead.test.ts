// Units that are decided while the commit before theirs is on its way.

import type { MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { ChangeCause } from "#gen/qirvo/hub/v1/entries_pb.js";
import type { StoreConfigSchema } from "#gen/qirvo/hub/v1/stores_pb.js";
import { HubError } from "../../src/hub-error.ts";
import { type KvStore, StorageError } from "../../src/state/kv-store.ts";
import { eventually } from "../harness/eventually.ts";
import { wrapKv } from "../harness/kv-wrapper.ts";
import { refused } from "../harness/refused.ts";
import { check, increment, StoreWorld, set, textOf } from "../harness/store-world.ts";

/** Holds commits, once it is closed, until it lets each of them through or fails it. */
class Gate {
	readonly held: PromiseWithResolvers<void>[] = [];
	isClosed = false;
	/** How many writes each commit had. */
	readonly sizes: number[] = [];

	wrap = (kv: KvStore): KvStore =>
		wrapKv(kv, {
			commit: async (commit) => {
				if (this.isClosed) {
					const held = Promise.withResolvers<void>();
					this.held.push(held);
					await held.promise;
				}
				this.sizes.push(commit.writes.length);
				return await kv.commit(commit);
			},
		});

	pass(): void {
		this.held.shift()!.resolve();
	}

	/** Lets all through from now on. */
	open(): void {
		this.isClosed = false;
		for (const held of this.held.splice(0)) held.resolve();
	}

	fail(): void {
		this.held.shift()!.reject(new StorageError("full", "not-written", "no room"));
	}
}

async function openGate(config: MessageInitShape<typeof StoreConfigSchema> = {}, cacheBytes?: number) {
	const gate = new Gate();
	const world = await StoreWorld.open(undefined, { wrap: gate.wrap, ...(cacheBytes !== undefined && { cacheBytes }) });
	const store = await world.create("s", config);
	gate.isClosed = true;
	return { gate, world, store };
}

/** What is submitted has been decided by then, as far as it can be. */
async function decided(): Promise<void> {
	for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

test("are stored with the next commit, all of them", async () => {
	const { gate, world, store } = await openGate();
	const first = world.set(store, "a", 1);
	await decided();
	const others = ["b", "c", "d"].map((key) => world.set(store, key, 2));
	await decided();
	gate.pass();
	await first;
	expect(world.get(store, "b")).toBeUndefined();
	await eventually(() => gate.held.length === 1);
	gate.pass();
	const revisions = (await Promise.all(others)).map(({ revision }) => revision);
	expect(new Set(revisions).size).toBe(3);
	for (const [index, key] of ["b", "c", "d"].entries()) {
		expect(world.get(store, key)?.revision).toBe(BigInt(revisions[index]!));
	}
	expect(store.usage()).toEqual({ keys: 4, bytes: 8 });
	// Each with the store's row and the writer's.
	expect(gate.sizes.slice(-2)).toEqual([3, 5]);
	await world[Symbol.asyncDispose]();
});

test("are decided again where that commit fails, and what it would have counted is not counted", async () => {
	const { gate, world, store } = await openGate({ quota: { keys: 2n } });
	const first = world.set(store, "a", 1);
	await decided();
	const second = world.set(store, "b", 22);
	const counted = world.write(increment(store, "c", 3));
	const tooMany = world.set(store, "d", 1);
	await expect(counted).rejects.toEqual(refused("QUOTA_EXCEEDED"));
	await expect(tooMany).rejects.toEqual(refused("QUOTA_EXCEEDED"));
	gate.fail();
	await expect(first).rejects.toEqual(refused("STORAGE_FULL"));
	gate.open();
	expect(await second).toMatchObject({ changed: true });
	expect(store.usage()).toEqual({ keys: 1, bytes: 3 });
	await world.set(store, "e", 1);
	await expect(world.set(store, "f", 1)).rejects.toEqual(refused("QUOTA_EXCEEDED"));
	expect(store.usage()).toEqual({ keys: 2, bytes: 5 });
	await world[Symbol.asyncDispose]();
});

test("are decided again where that commit meets the write of another hub", async () => {
	const { gate, world, store } = await openGate();
	await Promise.all([world.write(increment(store, "n", 1)), decided().then(() => gate.pass())]);
	const first = world.write(increment(store, "n", 10));
	await decided();
	const second = world.write(increment(store, "m", 5));
	await decided();
	const stored = world.state.kv.get(`store/entry/${store.id}/n`)!;
	await world.state.kv.commit({ id: "another hub", writes: [{ key: stored.key, value: stored.value }] });
	gate.open();
	expect(await first).toMatchObject({ number: 11 });
	expect(await second).toMatchObject({ number: 5 });
	expect(textOf(world.get(store, "n"))).toBe("11");
	expect(store.usage().keys).toBe(2);
	await world[Symbol.asyncDispose]();
});

test("see what is over by then as over, and end it before they write in its place", async () => {
	const { gate, world, store } = await openGate({ history: 3 });
	await Promise.all([world.set(store, "timed", 1, { ttlMs: 100 }), decided().then(() => gate.pass())]);
	const first = world.set(store, "a", 1);
	await decided();
	const second = world.set(store, "b", 1);
	await decided();
	world.clock.stepWall(150);
	const anew = world.set(store, "timed", 2, { expected: { kind: "absent" } });
	await decided();
	gate.open();
	await Promise.all([first, second]);
	expect(await anew).toMatchObject({ changed: true });
	const causes = world.history(store, "timed").map(({ cause }) => cause);
	expect(causes).toEqual([ChangeCause.SET, ChangeCause.EXPIRED, ChangeCause.SET]);
	expect(textOf(world.get(store, "timed"))).toBe("2");
	await world[Symbol.asyncDispose]();
});

test("of one key come one after the other, also where hardly anything is held in memory", async () => {
	const { gate, world, store } = await openGate({}, 4096);
	gate.isClosed = false;
	const big = "x".repeat(2000);
	const counted: Promise<{ number: number | undefined }>[] = [];
	for (let n = 0; n < 60; n++) {
		counted.push(world.write(increment(store, "hot", 1)));
		for (let m = 0; m < 5; m++) void world.set(store, `cold-${n}-${m}`, big);
		if (n % 7 === 0) await decided();
	}
	const numbers = (await Promise.all(counted)).map(({ number }) => number);
	expect(numbers).toEqual(Array.from({ length: 60 }, (_, n) => n + 1));
	await world.stores.idle();
	expect(store.usage().keys).toBe(301);
	expect(textOf(world.get(store, "cold-3-2"))).toBe(JSON.stringify(big));
	await world[Symbol.asyncDispose]();
});

test("of many keys that push each other out of memory share those keys' turns with others", async () => {
	const { gate, world, store } = await openGate({}, 4096);
	gate.open();
	const large = Array.from({ length: 10 }, (_, n) => set(store, `large-${n}`, "x".repeat(2000)));
	await world.submit({ writes: large });
	for (let n = 0; n < 10; n++) world.get(store, `large-${n}`);
	const both = [world.submit({ writes: [increment(store, "n", 1), ...large] }), world.write(increment(store, "n", 1))];
	await Promise.all(both);
	expect(textOf(world.get(store, "n"))).toBe("2");
	await world[Symbol.asyncDispose]();
});

for (const persistent of [true, false]) {
	test(`live by an instance that ends meanwhile: they end with it, ${persistent ? "persistent" : "in memory"}`, async () => {
		const { gate, world, store } = await openGate({ persistent });
		world.leases.live.add("owner/i");
		const first = world.set(store, "a", 1);
		await decided();
		const second = world.set(store, "b", 2, { instanceId: "i" });
		await decided();
		world.leases.end("owner", "i");
		await decided();
		gate.open();
		await Promise.all([first, second]);
		await world.stores.idle();
		expect(world.get(store, "b")).toBeUndefined();
		expect(store.usage().keys).toBe(1);
		await world[Symbol.asyncDispose]();
	});
}

test("do not count on an entry that is over when they are written", async () => {
	const { gate, world, store } = await openGate();
	const both = ["timed", "checked"].map((key) => world.set(store, key, 5, { ttlMs: 100 }));
	await Promise.all([...both, decided().then(() => gate.pass())]);
	const first = world.set(store, "a", 1);
	await decided();
	const counted = world.write(increment(store, "timed", 1));
	const checked = world.submit({
		checks: [check(store, "checked", { kind: "exists" })],
		writes: [set(store, "b", 1)],
		transactionId: "t",
	});
	await decided();
	world.clock.stepWall(150);
	expect(world.get(store, "timed")).toBeUndefined();
	const mismatch = expect(checked).rejects.toEqual(refused("REVISION_MISMATCH"));
	gate.open();
	await first;
	expect(await counted).toMatchObject({ number: 1, changed: true });
	await mismatch;
	expect(textOf(world.get(store, "timed"))).toBe("1");
	await world[Symbol.asyncDispose]();
});

test("are asked again for the right to write where they are decided again", async () => {
	const { gate, world, store } = await openGate();
	let isRevoked = false;
	const recheck = () => {
		if (isRevoked) throw new HubError("PERMISSION_REVOKED", "no longer");
	};
	const first = world.set(store, "a", 1);
	await decided();
	const second = world.submit({ writes: [set(store, "b", 1)], recheck });
	await decided();
	isRevoked = true;
	gate.fail();
	await expect(first).rejects.toEqual(refused("STORAGE_FULL"));
	gate.open();
	await expect(second).rejects.toEqual(refused("PERMISSION_REVOKED"));
	expect(store.usage().keys).toBe(0);
	await world[Symbol.asyncDispose]();
});
