import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { HubClientError, Store, StoreEntry } from "../../src/client/exports.ts";
import type { FakeClock } from "../harness/fake-clock.ts";
import { FakeStoreHub } from "./client-fake-stores.ts";
import { open, until } from "./client-opener.ts";

/** Moves the clock until the promise is settled. */
async function settle<T>(clock: FakeClock, promise: Promise<T>): Promise<T> {
	let settled = false;
	const done = () => {
		settled = true;
	};
	promise.then(done, done);
	await until(clock, () => settled);
	return await promise;
}

const gets = (hub: FakeStoreHub) => hub.done.filter((one) => one.startsWith("get")).length;

describe("a cached store", () => {
	it("answers by itself once it has caught up, what is there and what is not", async () => {
		const hub = new FakeStoreHub();
		hub.put("a/1", { n: 1 });
		hub.put("b", 2);
		const { client, clock } = await open(hub);
		const store = client.store("s", { cache: { glob: "a/*" } });
		await store.warm();
		const entry = await store.get("a/1");
		expect(entry).toMatchObject({ value: { n: 1 }, revision: 1n });
		entry!.value.n = 7;
		expect((await store.get("a/1"))?.value).toEqual({ n: 1 });
		expect(await store.get("a/2")).toBeUndefined();
		expect(gets(hub)).toBe(0);
		expect((await store.get("b"))?.value).toBe(2);
		expect(gets(hub)).toBe(1);
		hub.put("a/1", { n: 2 });
		hub.put("a/2", new Uint8Array([1]));
		await clock.advance(1);
		expect((await store.get("a/1"))?.value).toEqual({ n: 2 });
		expect(gets(hub)).toBe(1);
		store[Symbol.dispose]();
		expect((await store.get("a/1"))?.value).toEqual({ n: 2 });
		expect(gets(hub)).toBe(2);
	});

	it("shows what this client wrote, though the watch has not told it yet", async () => {
		const hub = new FakeStoreHub();
		const { client, clock } = await open(hub);
		const store = client.store<number>("s", { cache: true });
		await store.warm();
		await store.set("a", 1);
		await clock.advance(1);
		hub.hold();
		await client.store("s").set("a", 2);
		expect((await store.get("a"))?.value).toBe(2);
		await client.store("s").transact((tx) => tx.delete("a").set("b", 3));
		expect([await store.get("a"), (await store.get("b"))?.value]).toEqual([undefined, 3]);
		const asked = gets(hub);
		hub.tell();
		await clock.advance(1);
		// The hub did not say as of when there was no `a`.
		expect([await store.get("a"), (await store.get("b"))?.value]).toEqual([undefined, 3]);
		expect(gets(hub)).toBe(asked + 1);
	});

	it("answers that there is nothing, once all is told that came before it was learned", async () => {
		const hub = new FakeStoreHub();
		const { client, clock } = await open(hub);
		const store = client.store<number>("s", { cache: true });
		await store.warm();
		hub.hold();
		hub.put("a", 1);
		hub.remove("a");
		expect(await store.delete("a")).toMatchObject({ changed: false });
		hub.tell(1n);
		await clock.advance(1);
		expect(await store.get("a")).toBeUndefined();
		expect(gets(hub)).toBe(1);
		hub.tell();
		for (let beat = 0; beat < 2; beat++) {
			hub.beat();
			await clock.advance(1);
		}
		expect(await store.get("a")).toBeUndefined();
		expect(gets(hub)).toBe(1);
	});

	it("is bounded, and asks the hub for what it had no room for", async () => {
		const hub = new FakeStoreHub();
		for (let n = 0; n < 50; n++) hub.put(`k${n}`, n);
		const { client } = await open(hub);
		const store = client.store<number>("s", { cache: { maxEntries: 10 } });
		const bytes = client.store("s", { cache: { maxBytes: 600 } });
		await Promise.all([store.warm(), bytes.warm()]);
		for (let n = 0; n < 50; n++) expect((await store.get(`k${n}`))?.value).toBe(n);
		expect(gets(hub)).toBe(40);
		expect(await store.get("none")).toBeUndefined();
		expect(gets(hub)).toBe(41);
		for (let n = 0; n < 50; n++) await bytes.get(`k${n}`);
		expect(gets(hub)).toBe(41 + 48);
	});

	it("asks the hub while the connection is lost, and comes back where the store does", async () => {
		const hub = new FakeStoreHub();
		hub.put("a", 1);
		const { client, clock } = await open(hub);
		const store = client.store<number>("s", { cache: true });
		await store.warm();
		hub.faults.down = true;
		hub.disconnect();
		await clock.advance(1);
		hub.put("a", 2);
		hub.trim();
		const read = store.get("a");
		hub.faults.down = false;
		expect((await settle(clock, read))?.value).toBe(2);
		await settle(clock, store.warm());
		hub.remake("s2", 0n);
		hub.put("a", 3);
		await clock.advance(1);
		expect((await store.get("a"))?.value).toBe(3);
		await clock.advance(5_000);
		await settle(clock, store.warm());
		const asked = gets(hub);
		expect((await store.get("a"))?.value).toBe(3);
		expect(gets(hub)).toBe(asked);
	});
});

/** All that ever was of a key. */
type History = { readonly revision: bigint; readonly isThere: boolean }[];

const key = fc.integer({ min: 0, max: 2 }).map((n) => `k${n}`);
const step = fc.oneof(
	{ weight: 8, arbitrary: fc.record({ do: fc.constant("get" as const), key }) },
	{ weight: 4, arbitrary: fc.record({ do: fc.constant("put" as const), key }) },
	{ weight: 3, arbitrary: fc.record({ do: fc.constant("remove" as const), key }) },
	{ weight: 4, arbitrary: fc.record({ do: fc.constant("set" as const), key, beside: fc.boolean() }) },
	{ weight: 2, arbitrary: fc.record({ do: fc.constant("delete" as const), key, beside: fc.boolean() }) },
	{ weight: 2, arbitrary: fc.record({ do: fc.constant("hold" as const) }) },
	{ weight: 1, arbitrary: fc.record({ do: fc.constant("tell" as const) }) },
	{ weight: 4, arbitrary: fc.record({ do: fc.constant("tellOne" as const) }) },
	{ weight: 1, arbitrary: fc.record({ do: fc.constant("cut" as const) }) },
	{ weight: 2, arbitrary: fc.record({ do: fc.constant("beat" as const) }) },
	{ weight: 1, arbitrary: fc.record({ do: fc.constant("trim" as const) }) },
	{ weight: 2, arbitrary: fc.record({ do: fc.constant("wait" as const) }) },
);

describe("a cached store, whatever happens", () => {
	it("shows what was there, never older than what its client knew", async () => {
		let local = 0;
		await fc.assert(
			fc.asyncProperty(
				fc.array(step, { maxLength: 50, size: "max" }),
				fc.constantFrom(1, 2, 100),
				async (steps, maxEntries) => {
					const hub = new FakeStoreHub();
					const { client, clock } = await open(hub);
					const cached: Store<number> = client.store("s", { cache: { maxEntries } });
					const beside: Store<number> = client.store("s");
					const histories = new Map<string, History>();
					/** The revision that the client knows each key to have come to. */
					const known = new Map<string, bigint>();
					const historyOf = (name: string) => histories.get(name) ?? [{ revision: 0n, isThere: false }];
					const record = (name: string, isThere: boolean) => {
						histories.set(name, [...historyOf(name), { revision: hub.revision, isThere }]);
					};
					const learn = (name: string, revision: bigint) => {
						if (revision > (known.get(name) ?? 0n)) known.set(name, revision);
					};
					const judge = (name: string, entry: StoreEntry<number> | undefined) => {
						const least = known.get(name) ?? 0n;
						const history = historyOf(name);
						// What was there at the known revision, and all that came after it.
						const from = history.findLastIndex(({ revision }) => revision <= least);
						const possible = history.slice(Math.max(0, from));
						const shown = possible.find(
							({ revision, isThere }) => isThere === (entry !== undefined) && (!entry || revision === entry.revision),
						);
						if (!shown)
							throw new Error(
								`${name}: ${entry?.revision} is shown, of ${least} and ${JSON.stringify(possible, (_, part) => (typeof part === "bigint" ? Number(part) : part))}`,
							);
						learn(name, shown.revision);
					};
					await cached.warm();
					for (const [at, one] of steps.entries()) {
						if (one.do === "get") {
							const asked = gets(hub);
							judge(one.key, await settle(clock, cached.get(one.key)));
							if (gets(hub) === asked) local++;
						} else if (one.do === "put") {
							hub.put(one.key, at);
							record(one.key, true);
						} else if (one.do === "remove") {
							if (hub.entries.has(one.key)) {
								hub.remove(one.key);
								record(one.key, false);
							}
						} else if (one.do === "set") {
							const write = (one.beside ? beside : cached).set(one.key, at, { idempotent: true });
							const { revision } = await settle(clock, write);
							record(one.key, true);
							learn(one.key, revision);
						} else if (one.do === "delete") {
							const had = hub.entries.has(one.key);
							await settle(clock, (one.beside ? beside : cached).delete(one.key, { idempotent: true }));
							if (had) record(one.key, false);
							learn(one.key, historyOf(one.key).at(-1)!.revision);
						} else if (one.do === "hold") hub.hold();
						else if (one.do === "tell") hub.tell();
						else if (one.do === "tellOne") {
							hub.tell(1n);
							await clock.advance(1);
						} else if (one.do === "cut") hub.disconnect();
						else if (one.do === "beat") hub.beat();
						else if (one.do === "trim") hub.trim();
						else await clock.advance(700);
					}
					hub.tell();
					await clock.advance(1_000);
					await settle(clock, cached.warm());
					await clock.advance(1);
					for (let n = 0; n < 3; n++) {
						const entry = await settle(clock, cached.get(`k${n}`)).catch((error: HubClientError) => error);
						judge(`k${n}`, entry as StoreEntry<number>);
						expect((entry as StoreEntry<number> | undefined)?.value).toBe(hub.values()[`k${n}`]);
					}
					await client.close();
				},
			),
			{ numRuns: 300 },
		);
		expect(local).toBeGreaterThan(100);
	});
});
