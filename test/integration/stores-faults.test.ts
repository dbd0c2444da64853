import { expect, test } from "vitest";
import { type KvStore, StorageError } from "../../src/state/kv-store.ts";
import { eventually } from "../harness/eventually.ts";
import { wrapKv } from "../harness/kv-wrapper.ts";
import { refused } from "../harness/refused.ts";
import { change, increment, StoreWorld, set, textOf } from "../harness/store-world.ts";

/** What the storage is to do with the next commits: nothing, or all of it and then say that it does not know. */
class Fault {
	kind: "full" | "lost" | "lost-before" | undefined;
	commits = 0;
	ids = new Set<string>();

	wrap = (kv: KvStore): KvStore =>
		wrapKv(kv, {
			commit: async (commit) => {
				this.commits++;
				this.ids.add(commit.id);
				const { kind } = this;
				if (kind === "full") throw new StorageError("full", "not-written", "no room");
				if (kind === "lost-before") throw new StorageError("unavailable", "unknown", "who knows");
				const result = await kv.commit(commit);
				if (kind === "lost") throw new StorageError("unavailable", "unknown", "who knows");
				return result;
			},
		});
}

async function openFaulty() {
	const fault = new Fault();
	const world = await StoreWorld.open(undefined, { wrap: fault.wrap });
	const store = await world.create("s", { history: 2 });
	return { fault, world, store };
}

test("a full storage refuses writes, lets reads go on, and takes writes again once there is room", async () => {
	const { fault, world, store } = await openFaulty();
	await world.set(store, "k", 1);
	fault.kind = "full";
	const both = [world.set(store, "k", 2), world.set(store, "l", 2)];
	for (const one of both) await expect(one).rejects.toEqual(refused("STORAGE_FULL"));
	await expect(world.delete(store, "k")).rejects.toEqual(refused("STORAGE_FULL"));
	expect(textOf(world.get(store, "k"))).toBe("1");
	expect(world.list(store).entries).toHaveLength(1);
	expect(store.usage()).toEqual({ keys: 1, bytes: 2 });
	fault.kind = undefined;
	await world.set(store, "l", 2);
	expect(store.usage()).toEqual({ keys: 2, bytes: 4 });
	await world[Symbol.asyncDispose]();
});

test.each(["lost", "lost-before"] as const)("an unknown outcome (%s) is settled by the same commit", async (kind) => {
	const { fault, world, store } = await openFaulty();
	fault.kind = kind;
	fault.ids.clear();
	const counted = world.write(increment(store, "n", 1));
	await eventually(() => fault.ids.size === 1);
	for (let round = 0; round < 3; round++) await world.clock.advance(100);
	expect(fault.ids.size).toBe(1);
	fault.kind = undefined;
	await world.clock.advance(100);
	expect(await counted).toMatchObject({ number: 1, changed: true });
	expect(await world.write(increment(store, "n", 1))).toMatchObject({ number: 2 });
	await world[Symbol.asyncDispose]();
});

test("what is over ends, and what is deleted goes, once the storage takes it", async () => {
	const { fault, world, store } = await openFaulty();
	world.leases.live.add("owner/i");
	await world.set(store, "timed", 1, { ttlMs: 1000 });
	await world.set(store, "leased", 1, { instanceId: "i" });
	await world.stores.idle();
	fault.kind = "full";
	world.leases.end("owner", "i");
	await world.clock.advance(1000);
	await world.clock.advance(5000);
	expect(world.list(store).entries).toEqual([]);
	expect(store.usage().keys).toBe(2);
	expect(world.faults.length).toBeGreaterThan(1);
	fault.kind = undefined;
	await world.clock.advance(5000);
	await world.stores.idle();
	expect(store.usage().keys).toBe(0);
	await world.stores.definitions.delete("s", change());
	await world.stores.idle();
	expect(world.state.kv.range({ start: "store/", end: "store0", limit: 10 }).entries).toEqual([]);
	await world[Symbol.asyncDispose]();
});

test("a removal that a stop interrupts is taken up at the next start", async () => {
	const { fault, world, store } = await openFaulty();
	for (let n = 0; n < 700; n++) void world.set(store, `k${n}`, n, { ttlMs: n % 2 === 0 ? 0 : 60_000 });
	await world.stores.idle();
	const wrap = fault.wrap(world.state.kv);
	expect(wrap.revision).toBeGreaterThan(700);
	await world.stores.definitions.delete("s", change());
	await world.restart();
	await world.stores.idle();
	expect(world.state.kv.range({ start: "store/", end: "store0", limit: 10 }).entries).toEqual([]);
	await world[Symbol.asyncDispose]();
});

test("writes to a store that is deleted meanwhile are refused, all of them or none of a unit", async () => {
	const { world, store } = await openFaulty();
	const other = await world.create("other");
	const pending = Promise.allSettled(
		Array.from({ length: 50 }, (_, n) =>
			world.submit({ writes: [set(store, `k${n}`, n), set(other, `k${n}`, n)], transactionId: "t" }),
		),
	);
	await world.stores.definitions.delete("s", change());
	const settled = await pending;
	const written = settled.filter(({ status }) => status === "fulfilled").length;
	expect(other.usage().keys).toBe(written);
	await expect(world.set(store, "late", 1)).rejects.toEqual(refused("STORE_NOT_FOUND"));
	await world[Symbol.asyncDispose]();
});
