import { describe, expect, test } from "vitest";
import { unhurriedKv } from "../harness/kv-wrapper.ts";
import { refused } from "../harness/refused.ts";
import { backends } from "../harness/state-backends.ts";
import { ABSENT, ANY, at, check, StoreWorld, set, textOf } from "../harness/store-world.ts";

const ODD_KEYS = [
	"__proto__",
	"constructor",
	"toString",
	"k".repeat(512),
	"é".normalize("NFC"),
	"é".normalize("NFD"),
	"nul\0inside",
	"\0",
	"a/b",
	"/",
	"\u{10ffff}",
	"\ud7ff",
	"\uffff",
	" ",
	"ﬁ",
];

describe.each(backends)("entries on $name", (backend) => {
	test("have any keys, and keep them as they are", async () => {
		await using world = await StoreWorld.open(backend, { cacheBytes: 1 });
		for (const persistent of [true, false]) {
			const store = await world.create(`s-${persistent}`, { persistent, history: 2 });
			const writes = ODD_KEYS.map((key) => set(store, key, key, { ttlMs: 60_000 }));
			await world.submit({ writes, transactionId: "t" });
			for (const key of ODD_KEYS) {
				expect(world.get(store, key)?.key).toBe(key);
				expect(textOf(world.get(store, key))).toBe(JSON.stringify(key));
			}
			const inOrder = ODD_KEYS.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
			expect(world.list(store).entries.map(({ key }) => key)).toEqual(inOrder);
			expect(world.list(store, { reverse: true, keysOnly: true }).entries.map(({ key }) => key)).toEqual(
				inOrder.toReversed(),
			);
			for (const key of ODD_KEYS) {
				const pages = [world.list(store, { after: key }), world.list(store, { prefix: key })];
				expect(pages[0]!.entries.map((entry) => entry.key)).toEqual(inOrder.slice(inOrder.indexOf(key) + 1));
				expect(pages[1]!.entries.map((entry) => entry.key)).toEqual(inOrder.filter((other) => other.startsWith(key)));
			}
		}
		await world.advance(60_001);
		for (const { name } of world.stores.definitions.all()) {
			const store = world.stores.definitions.find(name)!;
			expect(world.list(store).entries).toEqual([]);
			for (const key of ODD_KEYS) expect(world.history(store, key)).toHaveLength(2);
		}
	});

	test("are listed in pages, also where few match", async () => {
		await using world = await StoreWorld.open(backend);
		const store = await world.create("s");
		const keys = Array.from({ length: 120 }, (_, n) => `k${String(n).padStart(3, "0")}`);
		await world.submit({ writes: keys.map((key) => set(store, key, key)), transactionId: "t" });
		const glob = { prefix: "k0", matches: (key: string) => key.endsWith("7") };
		for (const reverse of [false, true]) {
			const found: string[] = [];
			for (let after: string | undefined; ; ) {
				const page = world.list(store, { glob, after, limit: 4, reverse });
				found.push(...page.entries.map(({ key }) => key));
				if (page.next === undefined) break;
				after = page.next;
			}
			const expected = keys.filter((key) => key.startsWith("k0") && key.endsWith("7"));
			expect(found).toEqual(reverse ? expected.toReversed() : expected);
		}
		expect(world.list(store, { prefix: "x", glob }).entries).toEqual([]);
	});

	test("are as large as a megabyte, and a page ends early for them", async () => {
		await using world = await StoreWorld.open(backend);
		const store = await world.create("s");
		const text = "x".repeat(1024 * 1024 - 2);
		for (const key of ["a", "b", "c"]) await world.set(store, key, text);
		expect(textOf(world.get(store, "b"))).toBe(JSON.stringify(text));
		const page = world.list(store);
		expect(page.entries.map(({ key }) => key)).toEqual(["a"]);
		expect(world.list(store, { after: page.next }).entries.map(({ key }) => key)).toEqual(["b"]);
		expect(world.list(store, { keysOnly: true }).entries.map(({ key }) => key)).toEqual(["a", "b", "c"]);
	});
});

test("a unit is bounded, and what it would store is", async () => {
	await using world = await StoreWorld.open();
	const store = await world.create("s", { history: 2 });
	const volatile = await world.create("v", { persistent: false });
	const many = (count: number, ttlMs = 0) => Array.from({ length: count }, (_, n) => set(store, `k${n}`, n, { ttlMs }));
	await expect(world.submit({ writes: many(501) })).rejects.toEqual(refused("LIMIT_EXCEEDED"));
	await expect(world.submit({ writes: many(321, 1000) })).rejects.toEqual(refused("LIMIT_EXCEEDED"));
	await world.submit({ writes: many(320, 1000) });
	await world.submit({ writes: many(320, 1000) });
	await expect(world.submit({ writes: [] })).rejects.toEqual(refused("INVALID_FIELD"));
	const twice = [set(store, "k", 1), set(store, "k", 2)];
	await expect(world.submit({ writes: twice })).rejects.toEqual(refused("INVALID_FIELD"));
	const mixed = [set(store, "k", 1), set(volatile, "k", 1)];
	await expect(world.submit({ writes: mixed })).rejects.toEqual(refused("MIXED_PERSISTENCE"));
	for (let n = 0; n < 5; n++) await world.set(store, `large${n}`, "x".repeat(1_000_000));
	const deletes = Array.from({ length: 5 }, (_, n) => `large${n}`).map((key) => ({
		kind: "delete" as const,
		store,
		key,
		expected: { kind: "any" as const },
		returnPrevious: false,
	}));
	await expect(world.submit({ writes: deletes })).rejects.toEqual(refused("LIMIT_EXCEEDED"));
	await world.submit({ writes: deletes.slice(0, 3) });
});

test("a quota that has become too small refuses what makes it worse, and nothing else", async () => {
	await using world = await StoreWorld.open();
	const store = await world.create("s");
	for (const key of ["a", "b", "c"]) await world.set(store, key, "long enough");
	const small = await world.update("s", { quota: { keys: 2n, bytes: 20n }, pluginQuota: { keys: 9n, bytes: 9_999n } });
	await expect(world.set(small, "d", 1)).rejects.toEqual(refused("QUOTA_EXCEEDED", { unit: "keys" }));
	await expect(world.set(small, "a", "longer than it was")).rejects.toEqual(
		refused("QUOTA_EXCEEDED", { unit: "bytes" }),
	);
	await world.set(small, "a", "short");
	await world.delete(small, "b");
	const { revision } = await world.set(small, "a", 1);
	const gone = { kind: "delete", store: small, key: "c", expected: at(revision - 1), returnPrevious: false } as const;
	await expect(world.submit({ writes: [set(small, "d", 1), gone] })).rejects.toEqual(refused("REVISION_MISMATCH"));
	await world.submit({ writes: [set(small, "d", 1), { ...gone, expected: ANY }], transactionId: "t" });
	expect(small.usage()).toEqual({ keys: 2, bytes: 4 });
});

test("one key that many write to holds up nobody else", async () => {
	await using world = await StoreWorld.open(backends[1]);
	const store = await world.create("s");
	let hot = 0;
	const all = Array.from({ length: 200 }, (_, n) => world.set(store, "hot", n).then(() => hot++));
	await world.set(store, "cold", 1);
	expect(hot).toBeLessThan(5);
	await Promise.all(all);
	expect(textOf(world.get(store, "hot"))).toBe("199");
});

test("what waits to be written is bounded by all it holds, and of one writer by a half", async () => {
	await using world = await StoreWorld.open(undefined, { wrap: unhurriedKv });
	const store = await world.create("s", { persistent: false });
	const refusals: unknown[] = [];
	const settled: Promise<unknown>[] = [];
	for (let unit = 0; unit < 300; unit++) {
		const checks = Array.from({ length: 499 }, (_, at) => check(store, `${unit}-${at}`, ABSENT));
		const written = world.submit({ writer: "greedy", checks, writes: [set(store, `w-${unit}`, 1)] });
		settled.push(written.catch((error: unknown) => refusals.push(error)));
	}
	settled.push(world.submit({ writer: "modest", writes: [set(store, "m", 1)] }));
	await Promise.all(settled);
	expect(refusals.length).toBeGreaterThan(50);
	expect(refusals.length).toBeLessThan(150);
	expect(refusals[0]).toEqual(refused("LIMIT_EXCEEDED"));
	expect(world.get(store, "m")).toBeDefined();
	await world.submit({ writer: "greedy", writes: [set(store, "later", 1)] });
});

test("an answer shows at most two megabytes of what was there", async () => {
	await using world = await StoreWorld.open();
	const store = await world.create("s");
	const keys = ["a", "b", "c"];
	for (const key of keys) await world.set(store, key, "x".repeat(1_000_000));
	const remove = (key: string) => ({ kind: "delete", store, key, expected: ANY, returnPrevious: true }) as const;
	await expect(world.submit({ writes: keys.map(remove) })).rejects.toEqual(refused("LIMIT_EXCEEDED"));
	expect(world.list(store, { keysOnly: true }).entries).toHaveLength(3);
	const { results } = await world.submit({ writes: keys.slice(1).map(remove) });
	for (const { previous } of results) expect(previous!.byteLength).toBeGreaterThan(1_000_000);
});
