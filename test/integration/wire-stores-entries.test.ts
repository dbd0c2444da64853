import { create, toBinary } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { expect, it } from "vitest";
import { ChangeCause, SetOperationSchema } from "#gen/qirvo/hub/v1/entries_pb.js";
import { raw } from "../harness/bad-call.ts";
import { failureOf } from "../harness/failure.ts";
import { type Clients, describeHubs, type TestHub } from "../harness/hub.ts";
import { grpcFrame, rawCall } from "../harness/raw-grpc.ts";
import { binary, contents, expects, failedChecksOf, json, parsed, setOf } from "../harness/store-values.ts";

const MIB = 1024 * 1024;
const SET = "/qirvo.hub.v1.StoreService/Set";

/** A plugin with a store `s` that is kept and a store `v` that is not. */
async function withStores(hub: TestHub, config: object = {}): Promise<Clients> {
	const plugin = await hub.enrol("plugin");
	await plugin.stores.createStore({ name: "s", config });
	await plugin.stores.createStore({ name: "v", config: { ...config, persistent: false } });
	return plugin;
}

/** A `Set` request in wire form with these bytes for the key. */
function setWithKey(key: Uint8Array): Uint8Array {
	const set = toBinary(SetOperationSchema, create(SetOperationSchema, { store: "s", value: json(1) }));
	const operation = Buffer.concat([set, Buffer.from([0x12, key.byteLength]), key]);
	return Buffer.concat([Buffer.from([0x0a, operation.byteLength]), operation]);
}

describeHubs("an entry", (start) => {
	it("is written, read and deleted, with its revisions, times and writer", async () => {
		await using hub = await start();
		const { stores } = await withStores(hub);
		for (const store of ["s", "v"]) {
			expect(await failureOf(stores.get({ store, key: "a" }))).toMatchObject({
				code: "NotFound",
				reason: "ENTRY_NOT_FOUND",
				metadata: { store, key: "a" },
				details: ["ResourceInfo"],
			});
			const made = await stores.set({ set: setOf(store, "a", { n: 1 }, { returnPrevious: true }) });
			expect(made).toMatchObject({ duplicate: false, result: { changed: true } });
			expect(made.result?.previous).toBeUndefined();
			const first = (await stores.get({ store, key: "a" })).entry!;
			expect(first).toMatchObject({ key: "a", writer: "plugin", instanceId: "", revision: made.result!.revision });
			expect(first.createRevision).toBe(first.revision);
			expect(first.createTime).toEqual(first.updateTime);
			expect(Math.abs(Date.now() - timestampMs(first.updateTime!))).toBeLessThan(60_000);
			expect(first.expireTime).toBeUndefined();
			expect(parsed(first.value)).toEqual({ n: 1 });

			const value = { ...binary(Buffer.from([0, 255])), contentType: "image/x-none", schema: "urn:none" };
			const { result } = await stores.set({ set: { store, key: "a", value, returnPrevious: true } });
			expect(result?.previous).toEqual(first);
			const second = (await stores.get({ store, key: "a" })).entry!;
			expect(second).toMatchObject({ revision: result!.revision, createRevision: first.revision, value });
			expect(second.createTime).toEqual(first.createTime);
			const gone = await stores.delete({ delete: { store, key: "a", returnPrevious: true } });
			expect(gone.result).toMatchObject({ changed: true, previous: second });
			expect(gone.result!.revision).toBeGreaterThan(second.revision);
			const again = await stores.delete({ delete: { store, key: "a" } });
			expect(again.result).toMatchObject({ changed: false, revision: 0n });
			expect(await failureOf(stores.get({ store, key: "a" }))).toMatchObject({ reason: "ENTRY_NOT_FOUND" });
		}
	});

	it("is written only where what its writer expects holds", async () => {
		await using hub = await start();
		const { stores } = await withStores(hub);
		const set = (expected: object, value: unknown = 1) => stores.set({ set: setOf("s", "k", value, { expected }) });
		expect(await failureOf(set(expects.exists))).toMatchObject({
			code: "Aborted",
			reason: "REVISION_MISMATCH",
			metadata: { revision: "0" },
		});
		const { result } = await set(expects.absent);
		expect(await failedChecksOf(set(expects.absent))).toMatchObject([
			{ store: "s", key: "k", expected: expects.absent, actualRevision: result!.revision },
		]);
		const stale = expects.revision(result!.revision + 1n);
		expect(await failedChecksOf(set(stale))).toMatchObject([{ expected: stale, actualRevision: result!.revision }]);
		await set(expects.revision(result!.revision), 2);
		await set(expects.exists, 3);
		await set(expects.any, 4);
		const remove = (expected: object) => stores.delete({ delete: { store: "s", key: "k", expected } });
		expect(await failureOf(remove(expects.revision(result!.revision)))).toMatchObject({ reason: "REVISION_MISMATCH" });
		await remove(expects.exists);
		expect(await failureOf(remove(expects.exists))).toMatchObject({ reason: "REVISION_MISMATCH" });
		await remove(expects.absent);
		const nothing = { state: { case: undefined } } as const;
		expect((await failureOf(set(nothing))).fields).toEqual(["set.expected"]);
		const untrue = { state: { case: "absent", value: false } } as const;
		expect((await failureOf(set(untrue))).fields).toEqual(["set.expected.absent"]);
	});

	it("keeps its key and value as they were given, or is refused", async () => {
		await using hub = await start();
		const plugin = await withStores(hub);
		const { stores } = plugin;
		const keys = [
			"__proto__",
			"constructor",
			"toString",
			"a/b//c/",
			"/",
			" ",
			"\0",
			"a\0b",
			"\u{feff}bom",
			"\u00e9",
			"e\u0301",
			"\u{1f600}",
			"\u{10ffff}",
			"x".repeat(512),
			"\u00e9".repeat(256),
		];
		for (const store of ["s", "v"]) {
			for (const key of keys) await stores.set({ set: setOf(store, key, key) });
			const entries = (await stores.list({ store, pageSize: 1000 })).entries;
			const sorted = keys.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
			expect(entries.map(({ key, value }) => [key, parsed(value)])).toEqual(sorted.map((key) => [key, key]));
			const reversed = (await stores.list({ store, pageSize: 1000, reverse: true })).entries;
			expect(reversed.map(({ key }) => key)).toEqual(sorted.toReversed());
			for (const key of keys) expect(parsed((await stores.get({ store, key })).entry?.value)).toBe(key);
			for (const bad of ["", "x".repeat(513), "\u00e9".repeat(257)]) {
				expect((await failureOf(stores.set({ set: setOf(store, bad, 1) }))).fields).toEqual(["set.key"]);
				expect((await failureOf(stores.get({ store, key: bad }))).fields).toEqual(["key"]);
				expect((await failureOf(stores.listHistory({ store, key: bad }))).fields).toEqual(["key"]);
			}
		}
		for (const bytes of [[0xc3, 0x28], [0xed, 0xa0, 0x80], [0xff], [0xc0, 0x80]]) {
			const failure = await raw(SET, setWithKey(Buffer.from(bytes)))({ hub, plugin });
			expect(failure).toMatchObject({ code: "InvalidArgument", reason: "MALFORMED_REQUEST" });
		}
		const headers = { authorization: `Bearer ${plugin.token}` };
		const body = [grpcFrame(setWithKey(Buffer.from("fine")))];
		expect((await rawCall(hub.running.port, { path: SET, headers, body })).grpcStatus).toBe("0");
	});

	it("holds up to 1 MiB, and JSON that is one", async () => {
		await using hub = await start();
		const { stores } = await withStores(hub);
		const large = Buffer.alloc(MIB, 7);
		for (const store of ["s", "v"]) {
			await stores.set({ set: { store, key: "large", value: binary(large) } });
			const body = (await stores.get({ store, key: "large" })).entry?.value?.body;
			expect(body?.case === "binary" && large.equals(body.value)).toBe(true);
		}
		const bad: [object | undefined, string][] = [
			[undefined, "set.value"],
			[{}, "set.value"],
			[binary(Buffer.alloc(MIB + 1)), "set.value"],
			[{ body: { case: "json", value: "" } }, "set.value.json"],
			[{ body: { case: "json", value: "{" } }, "set.value.json"],
			[{ body: { case: "json", value: "[".repeat(65) + "]".repeat(65) } }, "set.value.json"],
			[{ ...json(1), contentType: "x".repeat(129) }, "set.value.content_type"],
			[{ ...json(1), schema: "x".repeat(513) }, "set.value.schema"],
		];
		for (const [value, field] of bad) {
			const failure = await failureOf(stores.set({ set: { store: "s", key: "bad", ...(value && { value }) } }));
			expect([field, failure.fields]).toEqual([field, [field]]);
		}
		expect(
			await failureOf(stores.set({ set: { store: "s", key: "b", value: binary(Buffer.alloc(MIB + 1)) } })),
		).toMatchObject({
			code: "PermissionDenied",
			reason: "INVALID_CONTENT",
			metadata: { limit: String(MIB) },
		});
		expect(await failureOf(stores.get({ store: "s", key: "bad" }))).toMatchObject({ reason: "ENTRY_NOT_FOUND" });
	});

	it("is listed in pages, by prefix and glob, with the moment of the page", async () => {
		await using hub = await start();
		const { stores } = await withStores(hub);
		for (const store of ["s", "v"]) {
			for (const key of ["a/1", "a/2", "a/b/3", "b/1", "c"]) await stores.set({ set: setOf(store, key, key) });
			const keys = async (request: object) => (await stores.list({ store, ...request })).entries.map(({ key }) => key);
			expect(await keys({})).toEqual(["a/1", "a/2", "a/b/3", "b/1", "c"]);
			expect(await keys({ prefix: "a/" })).toEqual(["a/1", "a/2", "a/b/3"]);
			expect(await keys({ glob: "a/*" })).toEqual(["a/1", "a/2"]);
			expect(await keys({ glob: "**/?" })).toEqual(["a/1", "a/2", "a/b/3", "b/1"]);
			expect(await keys({ prefix: "a", glob: "**1", reverse: true })).toEqual(["a/1"]);
			expect(await keys({ prefix: "none" })).toEqual([]);
			const all = await stores.list({ store, keysOnly: true });
			expect(all.entries.every(({ value, revision }) => value === undefined && revision > 0n)).toBe(true);
			expect(all.position?.epoch).toBe((await stores.getStore({ name: store })).store?.epoch);
			const seen: string[] = [];
			let pageToken = "";
			do {
				const page = await stores.list({ store, pageSize: 2, pageToken, reverse: true });
				expect(page.entries.length).toBeLessThanOrEqual(2);
				expect(page.position!.sequence).toBeGreaterThanOrEqual(all.entries.at(-1)!.revision);
				seen.push(...page.entries.map(({ key }) => key));
				pageToken = page.nextPageToken;
			} while (pageToken !== "");
			expect(seen).toEqual(["c", "b/1", "a/b/3", "a/2", "a/1"]);
			const first = await stores.list({ store, pageSize: 1 });
			const strange = stores.list({ store, pageSize: 1, prefix: "a", pageToken: first.nextPageToken });
			expect(await failureOf(strange)).toMatchObject({ reason: "INVALID_PAGE_TOKEN" });
			expect((await failureOf(stores.list({ store, glob: "\\" }))).fields).toEqual(["glob"]);
			expect((await failureOf(stores.list({ store, pageSize: -1 }))).fields).toEqual(["page_size"]);
		}
	});

	it("is counted and appended to without being read", async () => {
		await using hub = await start();
		const { stores } = await withStores(hub);
		for (const store of ["s", "v"]) {
			const add = async (delta: bigint, key = "n") =>
				(await stores.increment({ increment: { store, key, delta } })).result!;
			const results = await Promise.all(Array.from({ length: 50 }, () => add(2n)));
			expect(results.map(({ number }) => number).toSorted((a, b) => Number(a - b))).toEqual(
				results.map((_, index) => BigInt(2 * index + 2)),
			);
			expect(await add(-150n)).toMatchObject({ number: -50n, changed: true });
			expect(parsed((await stores.get({ store, key: "n" })).entry?.value)).toBe(-50);
			const top = BigInt(Number.MAX_SAFE_INTEGER);
			await add(top, "top");
			expect(await failureOf(add(1n, "top"))).toMatchObject({ reason: "INVALID_FIELD" });
			expect((await failureOf(add(top + 1n))).fields).toEqual(["increment.delta"]);
			await stores.set({ set: setOf(store, "text", "a") });
			expect(await failureOf(add(1n, "text"))).toMatchObject({ code: "FailedPrecondition", reason: "VALUE_MISMATCH" });

			const append = async (element: unknown, key = "set") =>
				(await stores.append({ append: { store, key, elementJson: JSON.stringify(element) } })).result!;
			await Promise.all([1, "1", 1, { a: 1, b: [2] }, "1"].map((element) => append(element)));
			expect(await append({ b: [2], a: 1 })).toMatchObject({ changed: false, revision: 0n });
			expect(await append([null])).toMatchObject({ changed: true });
			const stored = parsed((await stores.get({ store, key: "set" })).entry?.value) as unknown[];
			expect(stored).toHaveLength(4);
			expect(stored).toEqual(expect.arrayContaining([1, "1", { a: 1, b: [2] }, [null]]));
			expect(await failureOf(append(1, "text"))).toMatchObject({ reason: "VALUE_MISMATCH" });
			const broken = stores.append({ append: { store, key: "set", elementJson: "[" } });
			expect((await failureOf(broken)).fields).toEqual(["append.element_json"]);
		}
	});

	it("has a history as deep as its store asks for", async () => {
		await using hub = await start();
		const { stores } = await withStores(hub, { history: 3 });
		for (const store of ["s", "v"]) {
			for (const value of [0, 1, 2]) await stores.set({ set: setOf(store, "k", value) });
			await stores.delete({ delete: { store, key: "k" } });
			await stores.set({ set: setOf(store, "k", 3) });
			// Three values, and what became of them in between.
			const { versions } = await stores.listHistory({ store, key: "k" });
			expect(versions.map(({ cause, entry }) => [cause, parsed(entry?.value)])).toEqual([
				[ChangeCause.SET, 3],
				[ChangeCause.DELETED, undefined],
				[ChangeCause.SET, 2],
				[ChangeCause.SET, 1],
			]);
			expect(versions.every(({ actor, time }) => actor === "plugin" && time !== undefined)).toBe(true);
			const page = await stores.listHistory({ store, key: "k", pageSize: 2 });
			const rest = await stores.listHistory({ store, key: "k", pageSize: 2, pageToken: page.nextPageToken });
			expect([...page.versions, ...rest.versions]).toEqual(versions);
			expect(rest.nextPageToken).toBe("");
			expect((await stores.listHistory({ store, key: "never" })).versions).toEqual([]);
		}
	});

	it("is written once for a request id, however often that is sent", async () => {
		await using hub = await start();
		const { stores } = await withStores(hub);
		for (const store of ["s", "v"]) {
			const add = { increment: { store, key: "n", delta: 5n }, requestId: `add-${store}` };
			const answers = await Promise.all([1, 2, 3, 4].map(() => stores.increment(add)));
			expect(answers.filter(({ duplicate }) => !duplicate)).toHaveLength(1);
			expect(new Set(answers.map(({ result }) => result?.revision)).size).toBe(1);
			expect(answers.every(({ result }) => result?.number === 5n)).toBe(true);
			const other = stores.increment({ ...add, increment: { ...add.increment, delta: 6n } });
			expect(await failureOf(other)).toMatchObject({ code: "Aborted", reason: "ID_REUSED" });
			const set = { set: setOf(store, "n", 7, { returnPrevious: true }), requestId: `set-${store}` };
			expect((await stores.set(set)).result?.previous).toBeDefined();
			const again = await stores.set(set);
			expect(again).toMatchObject({ duplicate: true, result: { changed: true } });
			expect(again.result?.previous).toBeUndefined();
			await stores.delete({ delete: { store, key: "n" }, requestId: `del-${store}` });
			await stores.set({ set: setOf(store, "n", 8) });
			const repeated = await stores.delete({ delete: { store, key: "n" }, requestId: `del-${store}` });
			expect(repeated.duplicate).toBe(true);
			expect(contents((await stores.list({ store })).entries)).toEqual({ n: 8 });
		}
	});
});
