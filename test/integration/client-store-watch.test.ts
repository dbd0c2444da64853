import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ChangeCause } from "#gen/qirvo/hub/v1/entries_pb.js";
import type { HubClientError, StoreChange, StoreStart } from "../../src/client/exports.ts";
import { FakeClock } from "../harness/fake-clock.ts";
import { FakeStoreHub } from "./client-fake-stores.ts";
import { open, until } from "./client-opener.ts";

/** A reader's picture, made of what it was told; fails where a change does not fit it. */
class Picture {
	readonly values = new Map<string, unknown>();
	readonly changes: StoreChange[] = [];
	caughtUp = 0;
	resyncs: boolean[] = [];
	readonly #told = new Map<string, bigint>();
	#last = 0n;

	readonly take = (change: StoreChange) => {
		this.changes.push(change);
		const { key, entry, revision, isSnapshot, resynced } = change;
		if (!isSnapshot && !resynced && !(revision > this.#last))
			throw new Error(`${key} at ${revision} after ${this.#last}`);
		if (revision > this.#last) this.#last = revision;
		if (entry && this.#told.get(key) === entry.revision) throw new Error(`${key} at ${revision} is told twice`);
		if (entry) this.#told.set(key, entry.revision);
		if (entry) this.values.set(key, entry.value);
		else if (!this.values.delete(key)) throw new Error(`${key} is gone that was not there`);
	};
}

async function watch(hub: FakeStoreHub, start: StoreStart = "snapshot", glob = "") {
	const { client, clock } = await open(hub, {}, new FakeClock());
	const picture = new Picture();
	const errors: unknown[] = [];
	const handle = await client.store("s").onChange(picture.take, {
		glob,
		start,
		onCaughtUp: () => picture.caughtUp++,
		onResync: (_, complete) => picture.resyncs.push(complete),
		onError: (error) => errors.push(error),
	});
	return { client, clock, picture, handle, errors };
}

describe("a watch", () => {
	it("tells what is there, and then each change as it was and is", async () => {
		const hub = new FakeStoreHub();
		for (let n = 0; n < 8; n++) hub.put(`k${n}`, n);
		const { picture, clock, handle } = await watch(hub);
		expect(picture.changes.map(({ key, isSnapshot }) => [key, isSnapshot])).toEqual(
			Array.from({ length: 8 }, (_, n) => [`k${n}`, true]),
		);
		hub.put("k3", "new");
		hub.remove("k4", ChangeCause.LEASE_ENDED);
		await until(clock, () => picture.changes.length === 10);
		expect(picture.changes[8]).toMatchObject({ key: "k3", cause: "set", revision: 9n, actor: "me", isSnapshot: false });
		expect([picture.changes[8]?.entry?.value, picture.changes[8]?.previous?.value]).toEqual(["new", 3]);
		expect(picture.changes[9]).toMatchObject({ key: "k4", cause: "lease-ended", entry: undefined, resynced: false });
		expect(handle.position).toEqual({ epoch: "s1", sequence: 10n });
		expect(picture.caughtUp).toBe(1);
		handle.unwatch();
		expect(await handle.closed).toBeUndefined();
	});

	it("is caught up at once where there is nothing, tells only what matches, and starts where it is told", async () => {
		const hub = new FakeStoreHub();
		const { picture, clock, client } = await watch(hub, "snapshot", "a/*");
		hub.put("a/1", 1);
		hub.put("b/1", 1);
		hub.put("a/2", 2);
		await until(clock, () => picture.changes.length === 2);
		expect([...picture.values]).toEqual([
			["a/1", 1],
			["a/2", 2],
		]);
		const seen: string[] = [];
		for await (const { key } of client.store("s").watch({ start: { epoch: "s1", sequence: 1n } })) {
			seen.push(key);
			if (seen.length === 2) break;
		}
		expect(seen).toEqual(["b/1", "a/2"]);
		const told: string[] = [];
		let caughtUp = false;
		const abort = new AbortController();
		const loop = (async () => {
			const options = { start: "new", signal: abort.signal, onCaughtUp: () => (caughtUp = true) } as const;
			for await (const { key } of client.store("s").watch(options)) told.push(key);
		})();
		await until(clock, () => caughtUp);
		hub.put("c", 1);
		await until(clock, () => told.length > 0);
		abort.abort();
		await loop;
		expect(told).toEqual(["c"]);
	});

	it("says why it is refused, and when its store is gone", async () => {
		const hub = new FakeStoreHub();
		const { client } = await open(hub);
		const trimmed = { start: { epoch: "other", sequence: 1n } } as const;
		await expect(client.store("s").onChange(() => {}, trimmed)).rejects.toMatchObject({ reason: "POSITION_TRIMMED" });
		const loop = async () => {
			for await (const _ of client.store("s").watch(trimmed)) break;
		};
		await expect(loop()).rejects.toMatchObject({ reason: "POSITION_TRIMMED" });
		const { handle, errors } = await watch(hub);
		hub.remake("s2", 0n);
		hub.put("a", 1);
		expect((await handle.closed)?.reason).toBe("STORE_NOT_FOUND");
		expect(errors.map((error) => (error as HubClientError).reason)).toEqual(["STORE_NOT_FOUND"]);
	});

	it("goes on behind what a handler throws at", async () => {
		const hub = new FakeStoreHub();
		hub.put("a", 1);
		const { client, clock } = await open(hub);
		const failed: unknown[] = [];
		const seen: unknown[] = [];
		await client.store("s").onChange(
			async ({ entry }) => {
				seen.push(entry?.value);
				if (entry?.value === 1) throw new Error("no");
			},
			{ onError: (error, change) => failed.push([(error as Error).message, change?.key]) },
		);
		hub.put("b", 2);
		await until(clock, () => seen.length === 2);
		expect(failed).toEqual([["no", "a"]]);
	});

	it("tells the difference to a new snapshot where the hub forgot what came between", async () => {
		const hub = new FakeStoreHub();
		for (const key of ["a", "b", "c", "d"]) hub.put(key, 1);
		const { picture, clock } = await watch(hub);
		hub.faults.down = true;
		hub.disconnect();
		hub.put("a", 2);
		hub.remove("b");
		hub.put("e", 1);
		hub.trim();
		hub.put("f", 1);
		hub.faults.down = false;
		await until(clock, () => picture.values.size === 5);
		await until(clock, () => !picture.values.has("b"));
		expect(picture.changes.slice(4).map(({ key, resynced }) => [key, resynced])).toEqual([
			["a", true],
			["e", true],
			["f", true],
			["b", true],
		]);
		expect(picture.changes.at(-1)).toMatchObject({ cause: "deleted", actor: "", time: undefined, revision: 8n });
		expect(picture.resyncs).toEqual([true]);
		hub.put("a", 3);
		await until(clock, () => picture.values.get("a") === 3);
		expect(picture.changes.at(-1)).toMatchObject({ resynced: false });
	});

	it.each([
		["goes on", 100n],
		["begins anew", 0n],
	])("tells a store that was made again as a difference, where its numbering %s", async (_, revision) => {
		for (const start of ["snapshot", "new"] as const) {
			const hub = new FakeStoreHub();
			hub.put("old", 1);
			const { picture, clock } = await watch(hub, start);
			hub.put("a", 1);
			hub.put("b", 1);
			await until(clock, () => picture.values.has("b"));
			hub.faults.down = true;
			hub.disconnect();
			hub.remake("s2", revision);
			hub.put("b", 2);
			hub.faults.down = false;
			await until(clock, () => picture.values.get("b") === 2 && !picture.values.has("a"));
			expect([...picture.values]).toEqual([["b", 2]]);
			expect(picture.resyncs).toEqual([start === "snapshot"]);
		}
	});

	it("ends rather than be wrong where it could not keep what it told", async () => {
		const hub = new FakeStoreHub();
		for (const key of ["a", "b", "c"]) hub.put(key, 1);
		const { client, clock } = await open(hub);
		const watch = await client.store("s").onChange(() => {}, { maxTracked: 2, onError: () => {} });
		let closed: HubClientError | undefined;
		void watch.closed.then((error) => {
			closed = error;
		});
		hub.disconnect();
		hub.put("a", 2);
		hub.trim();
		await until(clock, () => closed !== undefined);
		expect(closed).toMatchObject({ reason: "POSITION_TRIMMED" });
		expect(closed?.message).toContain("more than 2 keys");
	});
});

describe("a watch, whatever breaks", () => {
	const step = fc.oneof(
		{ weight: 6, arbitrary: fc.record({ do: fc.constant("put" as const), key: fc.nat(8), value: fc.nat(100) }) },
		{ weight: 3, arbitrary: fc.record({ do: fc.constant("remove" as const), key: fc.nat(8) }) },
		{ weight: 2, arbitrary: fc.record({ do: fc.constant("cut" as const) }) },
		{ weight: 1, arbitrary: fc.record({ do: fc.constant("trim" as const) }) },
		{ weight: 1, arbitrary: fc.record({ do: fc.constant("breakAfter" as const), frames: fc.nat(3) }) },
		{ weight: 2, arbitrary: fc.record({ do: fc.constant("wait" as const) }) },
	);

	it("ends with the reader's picture like the store, told once and in order", async () => {
		await fc.assert(
			fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 40, size: "max" }), async (steps) => {
				const hub = new FakeStoreHub();
				for (const key of ["k1", "k3", "k5", "x"]) hub.put(key, "first");
				const { picture, clock, errors, client } = await watch(hub);
				for (const one of steps) {
					if (one.do === "put") hub.put(`k${one.key}`, one.value);
					else if (one.do === "remove") hub.remove(`k${one.key}`);
					else if (one.do === "cut") hub.disconnect();
					else if (one.do === "trim") hub.trim();
					else if (one.do === "breakAfter") hub.breakWatchAfter = one.frames;
					else await clock.advance(700);
				}
				hub.breakWatchAfter = 0;
				hub.put("last", "last");
				await until(clock, () => picture.values.get("last") === "last");
				expect(Object.fromEntries(picture.values)).toEqual(hub.values());
				expect(errors).toEqual([]);
				await client.close();
			}),
			{ numRuns: 150 },
		);
	});
});
