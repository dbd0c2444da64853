import { describe, expect, it } from "vitest";
import { HubClientError } from "../../src/client/exports.ts";
import { FakeStoreHub } from "./client-fake-stores.ts";
import { open, until } from "./client-opener.ts";

const MODES = [
	{ mode: "a pipeline", bidi: true },
	{ mode: "unary calls, as in a browser", bidi: false },
];
const manifest = { id: "me" };

describe.each(MODES)("a store over $mode", ({ bidi }) => {
	it("writes, reads, counts, appends and deletes", async () => {
		const hub = new FakeStoreHub();
		const { client } = await open(hub, { bidi });
		const store = client.store("s");
		expect(await store.get("a")).toBeUndefined();
		const first = await store.set("a", { n: 1 });
		expect(first).toEqual({ revision: 1n, changed: true, previous: undefined });
		const entry = await store.get("a");
		expect(entry).toMatchObject({ key: "a", value: { n: 1 }, revision: 1n, createRevision: 1n, writer: "me" });
		const second = await store.set("a", new Uint8Array([1, 2]), { expected: first.revision, returnPrevious: true });
		expect(second.previous?.value).toEqual({ n: 1 });
		expect((await store.get("a"))?.value).toEqual(new Uint8Array([1, 2]));
		expect(await store.increment("n")).toMatchObject({ value: 1 });
		expect(await store.increment("n", -5)).toMatchObject({ value: -4 });
		expect(await store.append("list", "x")).toMatchObject({ changed: true });
		expect(await store.append("list", "x")).toMatchObject({ changed: false });
		expect(await store.delete("a")).toMatchObject({ changed: true });
		expect(await store.delete("a")).toMatchObject({ changed: false, revision: 0n });
		expect(hub.values()).toEqual({ n: -4, list: ["x"] });
	});

	it("says which expectations did not hold", async () => {
		const hub = new FakeStoreHub();
		const { client } = await open(hub, { bidi });
		const store = client.store("s");
		hub.put("a", 1);
		const failed = await store.set("a", 2, { expected: "absent" }).catch((error: unknown) => error);
		expect(failed).toBeInstanceOf(HubClientError);
		expect(failed).toMatchObject({
			reason: "REVISION_MISMATCH",
			failedChecks: [{ store: "s", key: "a", expected: "absent", actualRevision: 1n }],
		});
		const other = await store
			.transact((tx) => tx.check("a", 7n).set("b", 1, { expected: "exists" }).delete("c", { expected: "any" }))
			.catch((error: unknown) => error);
		expect((other as HubClientError).failedChecks).toEqual([
			{ store: "s", key: "a", expected: 7n, actualRevision: 1n },
			{ store: "s", key: "b", expected: "exists", actualRevision: undefined },
		]);
		expect(hub.values()).toEqual({ a: 1 });
	});

	it("writes many keys at once, in several stores", async () => {
		const hub = new FakeStoreHub();
		const { client } = await open(hub, { bidi });
		const store = client.store<number>("s");
		const done = await store.transact((tx) => {
			tx.check("a", "absent").set("a", 1).increment("n", 4);
			tx.in(client.store<string>("s")).append("l", "x").delete("none");
		});
		expect(done.transactionId).not.toBe("");
		expect(done.results.map(({ changed }) => changed)).toEqual([true, true, true, false]);
		expect(done.numbers.get(1)).toBe(4);
		expect(hub.values()).toEqual({ a: 1, n: 4, l: ["x"] });
	});

	it("updates by compare and set, again where another write came between", async () => {
		const hub = new FakeStoreHub();
		const { client, clock } = await open(hub, { bidi });
		const store = client.store<number>("s");
		expect(await store.update("n", (n = 0) => n + 1)).toMatchObject({ value: 1, changed: true });
		let calls = 0;
		let settled = false;
		const updated = store
			.update("n", (n = 0) => {
				if (++calls < 4) hub.put("n", n + 10);
				return n + 1;
			})
			.finally(() => {
				settled = true;
			});
		await until(clock, () => settled);
		expect(await updated).toMatchObject({ value: 32, changed: true });
		expect(calls).toBe(4);
		expect(await store.update("n", () => undefined)).toMatchObject({ value: 32, changed: false });
		let lost = false;
		const hopeless = store
			.update("n", (n = 0) => Number(hub.put("n", n + 1)), { attempts: 3 })
			.catch((error: unknown) => {
				lost = true;
				return error;
			});
		await until(clock, () => lost);
		expect(await hopeless).toMatchObject({ reason: "REVISION_MISMATCH", failedChecks: [{ key: "n" }] });
		expect(hub.values()).toEqual({ n: 35 });
	});

	it("binds entries to the client's own lease", async () => {
		const hub = new FakeStoreHub();
		const { client } = await open(hub, { bidi, manifest });
		const store = client.store("s");
		await store.set("here", true, { ephemeral: true });
		await store.transact((tx) => tx.set("there", true, { ephemeral: true }).set("always", 1));
		expect((await store.get("here"))?.instanceId).toBe(client.instanceId);
		expect((await store.get("there"))?.instanceId).toBe(client.instanceId);
		expect((await store.get("always"))?.instanceId).toBe("");
		const { client: operator } = await open(hub, { bidi });
		await expect(operator.store("s").set("x", 1, { ephemeral: true })).rejects.toMatchObject({
			reason: "INVALID_FIELD",
		});
	});

	it("refuses what would be stored as something else", async () => {
		const hub = new FakeStoreHub();
		const { client } = await open(hub, { bidi });
		const store = client.store("s");
		await expect(store.set("\ud800", 1)).rejects.toMatchObject({
			reason: "INVALID_FIELD",
			violations: [{ field: "key" }],
		});
		await expect(store.get("\udc00")).rejects.toMatchObject({ reason: "INVALID_FIELD" });
		await expect(store.set("a", undefined)).rejects.toBeInstanceOf(TypeError);
		await expect(store.set("a", 1n)).rejects.toBeInstanceOf(TypeError);
		await expect(store.set("a", 1, { ttl: Number.NaN })).rejects.toBeInstanceOf(RangeError);
		await expect(store.increment("a", 0.5)).rejects.toMatchObject({ reason: "INVALID_FIELD" });
		for (const key of ["__proto__", "constructor", "a\0b", "é", "e\u0301", "k".repeat(512)]) {
			await store.set(key, key);
			expect((await store.get(key))?.value).toBe(key);
		}
		expect(hub.done.filter((one) => one.startsWith("set"))).toHaveLength(6);
	});

	it("repeats reads after a loss, and says that the outcome of a write is unknown", async () => {
		const hub = new FakeStoreHub();
		const { client, clock } = await open(hub, { bidi });
		const store = client.store("s");
		hub.put("a", 1);
		const settle = async <T>(promise: Promise<T>) => {
			let settled = false;
			const outcome = promise.then(
				(value) => ({ value }),
				(error: HubClientError) => ({ reason: error.reason }),
			);
			void outcome.then(() => {
				settled = true;
			});
			await until(clock, () => settled);
			return await outcome;
		};
		const losing = async <T>(start: () => Promise<T>) => {
			hub.loseAnswers = 1;
			return await settle(start());
		};
		expect(await losing(() => store.get("a"))).toMatchObject({ value: { value: 1 } });
		expect(await losing(() => store.set("a", 2))).toEqual({ reason: "OUTCOME_UNKNOWN" });
		expect(await losing(() => store.set("a", 3, { idempotent: true }))).toMatchObject({ value: { changed: true } });
		expect(await losing(() => store.increment("n"))).toEqual({ reason: "OUTCOME_UNKNOWN" });
		expect(await losing(() => store.increment("n", 1, { requestId: "r" }))).toMatchObject({ value: { value: 2 } });
		// The write was done, so its repeat finds the revision that it made itself.
		const { revision } = hub.entries.get("a")!;
		expect(await losing(() => store.set("a", 4, { expected: revision }))).toEqual({ reason: "OUTCOME_UNKNOWN" });
		expect(await losing(() => store.update("n", (n: number) => n + 1))).toMatchObject({ value: { value: 3 } });
		expect(await losing(() => store.delete("a"))).toEqual({ reason: "OUTCOME_UNKNOWN" });
		expect(hub.values()).toEqual({ n: 3 });
		hub.faults.down = true;
		hub.disconnect();
		const waiting = store.set("late", 1);
		hub.faults.down = false;
		expect(await settle(waiting)).toMatchObject({ value: { changed: true } });
	});

	it("lists every page, and keys alone", async () => {
		const hub = new FakeStoreHub();
		const { client } = await open(hub, { bidi });
		const store = client.store<number>("s");
		for (let n = 0; n < 25; n++) hub.put(`k${String(n).padStart(2, "0")}`, n);
		hub.put("other", 0);
		const values: number[] = [];
		for await (const { value } of store.list({ prefix: "k", pageSize: 10 })) values.push(value);
		expect(values).toEqual(Array.from({ length: 25 }, (_, n) => n));
		const keys: string[] = [];
		for await (const key of store.keys({ pageSize: 10 })) keys.push(key);
		expect(keys).toHaveLength(26);
		const { entries, position } = await store.snapshot({ glob: "k*" });
		expect([...entries.values()].map((entry) => entry.value)).toEqual(values);
		expect(position).toEqual({ epoch: "s1", sequence: 26n });
	});
});

describe("a pipeline", () => {
	it("gathers operations, keeps their order, and bounds what is on its way", async () => {
		const hub = new FakeStoreHub();
		const { client } = await open(hub);
		const store = client.store<number>("s");
		const writes = Array.from({ length: 20_000 }, (_, n) => store.set(`k${n % 7}`, n));
		const read = store.get("k0");
		const results = await Promise.all(writes);
		expect(results.map(({ revision }) => revision)).toEqual(writes.map((_, n) => BigInt(n + 1)));
		expect((await read)?.value).toBe(19_999 - ((19_999 - 0) % 7));
		expect(Math.max(...hub.frames)).toBeLessThanOrEqual(2_048);
		expect(hub.frames.length).toBeLessThan(60);
	});

	it("gives way to calls where the hub refuses it", async () => {
		const hub = new FakeStoreHub();
		hub.refusePipeline = true;
		const { client } = await open(hub);
		hub.put("a", 1);
		const store = client.store("s");
		const [a, b] = await Promise.all([store.get("a"), store.get("b")]);
		expect([a?.value, b]).toEqual([1, undefined]);
		expect(await store.set("b", 2)).toMatchObject({ changed: true });
	});

	it("ends a wait at its time and on its signal, and sends nothing that nobody waits for", async () => {
		const hub = new FakeStoreHub();
		const { client, clock } = await open(hub, { callTimeout: 4_000 });
		const store = client.store("s");
		hub.silent = true;
		const slow = store.get("a").catch((error: HubClientError) => error.reason);
		const abort = new AbortController();
		const left = store.set("a", 1, { signal: abort.signal }).catch((error: HubClientError) => error.reason);
		const own = store.get("b", { timeout: 1_000 }).catch((error: HubClientError) => [error.reason, clock.monotonic()]);
		const started = clock.monotonic();
		await until(clock, () => hub.frames.length > 0);
		abort.abort();
		expect(await left).toBe("CANCELLED");
		await clock.advance(4_000);
		expect(await own).toEqual(["DEADLINE_EXCEEDED", started + 1_000]);
		expect(await slow).toBe("DEADLINE_EXCEEDED");
		await expect(store.set("z", 1, { signal: abort.signal })).rejects.toMatchObject({ reason: "CANCELLED" });
		expect(hub.done.some((one) => one.includes("z"))).toBe(false);
	});

	it("fails everything when the client closes", async () => {
		const hub = new FakeStoreHub();
		const { client } = await open(hub);
		const store = client.store("s");
		await store.get("a");
		hub.silent = true;
		const reasons = [store.get("a"), store.set("a", 1)].map((one) =>
			one.catch((error: HubClientError) => error.reason),
		);
		await expect.poll(() => hub.done.length).toBe(3);
		await client.close();
		expect(await Promise.all(reasons)).toEqual(["CLIENT_CLOSED", "OUTCOME_UNKNOWN"]);
		await expect(store.get("a")).rejects.toMatchObject({ reason: "CLIENT_CLOSED" });
	});
});

describe("a store's schema", () => {
	const positive = {
		parse(value: unknown): number {
			if (typeof value !== "number" || value < 0) throw new TypeError("not a positive number");
			return value;
		},
	};
	const named = {
		"~standard": {
			version: 1,
			vendor: "test",
			validate: async (value: unknown) =>
				typeof (value as { name?: unknown }).name === "string"
					? { value: value as { name: string } }
					: { issues: [{ message: "must be a string", path: ["a/b", { key: "name" }] }] },
		},
	} as const;

	it("judges writes before they are sent, and reads", async () => {
		const hub = new FakeStoreHub();
		const { client } = await open(hub);
		const store = client.store("s", { schema: positive });
		await store.set("a", 1);
		const typed: number | undefined = (await store.get("a"))?.value;
		expect(typed).toBe(1);
		await expect(store.set("a", -1)).rejects.toMatchObject({
			reason: "VALIDATION_FAILED",
			metadata: { validator: "client", key: "a" },
		});
		await expect(store.transact((tx) => tx.set("a", 2).set("b", -1))).rejects.toMatchObject({
			reason: "VALIDATION_FAILED",
		});
		hub.put("bad", "text");
		await expect(store.get("bad")).rejects.toMatchObject({ reason: "VALIDATION_FAILED", cause: expect.any(TypeError) });
		expect(hub.values()).toEqual({ a: 1, bad: "text" });
		const seen: unknown[] = [];
		for await (const entry of store.list()) {
			try {
				seen.push(entry.value);
			} catch (error) {
				seen.push((error as HubClientError).reason, entry.data);
			}
		}
		expect(seen).toEqual([1, "VALIDATION_FAILED", "text"]);
	});

	it("may be a standard one, and take its time", async () => {
		const hub = new FakeStoreHub();
		const { client } = await open(hub);
		const store = client.store("s", { schema: named });
		await store.set("a", { name: "Ada" });
		expect((await store.get("a"))?.value?.name).toBe("Ada");
		await expect(store.set("b", { name: 7 } as never)).rejects.toMatchObject({
			reason: "VALIDATION_FAILED",
			metadata: { path: "/a~1b/name" },
			violations: [{ field: "/a~1b/name", description: "must be a string" }],
		});
		await store.transact((tx) => tx.set("c", { name: "Bob" }));
		hub.put("d", {});
		await expect(store.get("d")).rejects.toMatchObject({ reason: "VALIDATION_FAILED" });
		expect(hub.values()).toEqual({ a: { name: "Ada" }, c: { name: "Bob" }, d: {} });
	});
});
