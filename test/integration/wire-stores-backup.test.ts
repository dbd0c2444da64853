import { createHash } from "node:crypto";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { expect, it } from "vitest";
import type { Entry } from "#gen/qirvo/hub/v1/entries_pb.js";
import type { OpenRestore } from "#gen/qirvo/hub/v1/store_backup_pb.js";
import { randomIds, systemClock } from "../../src/clock/system-clock.ts";
import { openMemoryState } from "../../src/state/memory/open-memory-state.ts";
import { prefixEnd } from "../../src/state/state-backend.ts";
import { postJson } from "../harness/connect-json.ts";
import { type Failure, failureOf } from "../harness/failure.ts";
import { type Clients, describeHubs, manifestOf, until } from "../harness/hub.ts";
import { binary, contents, json, setOf } from "../harness/store-values.ts";

async function backup({ stores }: Clients, name: string): Promise<string[]> {
	const lines: string[] = [];
	for await (const frame of stores.backupStore({ name })) lines.push(...frame.lines);
	return lines;
}

interface Restored {
	readonly entries: bigint;
	readonly done: boolean;
}

async function restore(
	{ stores }: Clients,
	lines: readonly string[],
	open: Partial<OpenRestore> = {},
	size = 100,
): Promise<Restored | undefined> {
	async function* frames() {
		const { name = "", owner = "", verifyOnly = false } = open;
		yield { frame: { case: "open", value: { name, owner, verifyOnly } } } as const;
		for (let at = 0; at < lines.length; at += size) {
			yield { frame: { case: "lines", value: { lines: lines.slice(at, at + size) } } } as const;
		}
	}
	let last: Restored | undefined;
	for await (const { entries, done } of stores.restoreStore(frames())) last = { entries, done };
	return last;
}

async function all({ stores }: Clients, store: string): Promise<Entry[]> {
	const entries: Entry[] = [];
	let pageToken = "";
	do {
		const page = await stores.list({ store, pageSize: 1000, pageToken });
		entries.push(...page.entries);
		pageToken = page.nextPageToken;
	} while (pageToken !== "");
	return entries;
}

const withoutRevisions = (entries: readonly Entry[]) =>
	entries.map(({ revision: _, createRevision: _create, ...rest }) => rest);

/** The lines with another last one that fits them. */
function resealed(lines: readonly string[]): string[] {
	const hash = createHash("sha256");
	for (const line of lines) hash.update(`${line}\n`);
	return [...lines, JSON.stringify({ entries: lines.length - 1, sha256: hash.digest("hex") })];
}

describeHubs("a backup of a store", (start) => {
	it("can be read without gRPC, as can entries", async () => {
		await using hub = await start();
		const { stores } = await hub.enrol("plugin");
		await stores.createStore({ name: "s" });
		await stores.set({ set: setOf("s", "people/ada", { greeted: 1 }) });
		const post = (method: string, body: object) =>
			postJson(hub.url, `/qirvo.hub.v1.StoreService/${method}`, hub.operator.token, JSON.stringify(body));
		expect(await post("Get", { store: "s", key: "people/ada" })).toMatchObject({
			entry: { key: "people/ada", value: { json: '{"greeted":1}' }, writer: "plugin" },
		});
		expect(await post("List", { store: "s", prefix: "people/" })).toMatchObject({ entries: [{ writer: "plugin" }] });
		expect(await post("ListStores", {})).toMatchObject({
			stores: [{ name: "s", owner: "plugin", usage: { keys: "1" } }],
		});
	});

	it("makes the same store again, here and in another hub", async () => {
		await using hub = await start();
		await using other = await start();
		const plugin = await hub.enrol("plugin");
		const guest = await hub.enrol("guest");
		const { instanceId } = await plugin.plugins.register({ manifestJson: manifestOf("plugin") });
		for (const persistent of [true, false]) {
			const name = persistent ? "kept" : "volatile";
			const config = {
				persistent,
				read: { plugins: ["*"] },
				write: { plugins: ["guest"] },
				quota: { keys: 5000n },
				history: 3,
				description: "everything there is",
				validators: [{ name: "any", keyGlob: "checked/*", rule: { case: "cel", value: "true" } as const }],
			};
			const before = (await plugin.stores.createStore({ name, config })).store!;
			const odd = ["__proto__", "a\0b", "\u00e9", "e\u0301", "\u{1f600}", "x".repeat(512)];
			for (const key of odd) await guest.stores.set({ set: setOf(name, key, key) });
			const writes = Array.from({ length: 400 }, (_, index) => ({
				write: { case: "set", value: setOf(name, `many/${index}`, { index }) } as const,
			}));
			for (let round = 0; round < 3; round++) await plugin.stores.transact({ writes });
			const large = '\\u0001"'.repeat(120_000);
			await plugin.stores.set({
				set: {
					store: name,
					key: "large",
					value: { body: { case: "json", value: `"${large.replaceAll('"', '\\"')}"` } },
				},
			});
			await plugin.stores.set({
				set: {
					store: name,
					key: "bytes",
					value: { ...binary(Buffer.from([0, 255])), contentType: "a/b", schema: "c" },
				},
			});
			await plugin.stores.set({ set: setOf(name, "ends", 1, { ttl: durationFromMs(3_600_000) }) });
			await plugin.stores.set({ set: setOf(name, "lives", 1, { instanceId }) });
			const entries = await all(plugin, name);

			const lines = await backup(hub.operator, name);
			expect(lines).toHaveLength(entries.length + 2);
			expect(JSON.parse(lines[0]!)).toMatchObject({
				format: "qirvo.hub.store",
				version: 1,
				store: { name, owner: "plugin" },
			});
			expect(JSON.parse(lines.at(-1)!)).toMatchObject({ entries: entries.length });
			expect(lines.every((line) => Buffer.byteLength(line) < 2 * 1024 * 1024)).toBe(true);
			expect(await failureOf(restore(hub.operator, lines))).toMatchObject({
				code: "AlreadyExists",
				reason: "STORE_EXISTS",
			});

			const verified = await restore(hub.operator, lines, { name: `${name}-2`, verifyOnly: true });
			expect(verified).toEqual({ entries: BigInt(entries.length), done: true });
			expect(await failureOf(plugin.stores.getStore({ name: `${name}-2` }))).toMatchObject({
				reason: "STORE_NOT_FOUND",
			});

			expect(await restore(hub.operator, lines, { name: `${name}-2`, owner: "guest" })).toMatchObject({ done: true });
			const again = (await guest.stores.getStore({ name: `${name}-2` })).store!;
			expect(again).toMatchObject({ owner: "guest", config: before.config });
			expect(again.epoch).not.toBe(before.epoch);
			expect(again.usage).toEqual((await plugin.stores.getStore({ name })).store!.usage);
			expect(withoutRevisions(await all(guest, `${name}-2`))).toEqual(withoutRevisions(entries));
			expect(await backup(hub.operator, `${name}-2`)).toHaveLength(lines.length);

			// In the other hub the instance is not there, and with it what lived by it.
			await restore(other.operator, lines);
			const there = await all(other.operator, name);
			expect(withoutRevisions(there)).toEqual(withoutRevisions(entries.filter(({ key }) => key !== "lives")));
			expect((await other.operator.stores.getStore({ name })).store?.usage?.keys).toBe(BigInt(there.length));
		}
		const late = await backup(hub.operator, "kept-2");
		await guest.stores.deleteStore({ name: "kept-2" });
		await restore(hub.operator, late);
		await guest.stores.set({ set: setOf("kept-2", "one-more", 1) });
	});

	it("is of one moment, whatever is written meanwhile", async () => {
		await using hub = await start();
		const plugin = await hub.enrol("plugin");
		for (const persistent of [true, false]) {
			const name = persistent ? "kept" : "volatile";
			await plugin.stores.createStore({ name, config: { persistent } });
			// Every pair of keys has the same value at every moment, and there is one key of each `gone` pair.
			const pair = (index: number, value: number) => ({
				writes: [`a/${index}`, `z/${index}`].map((key) => ({
					write: { case: "set", value: setOf(name, key, value) } as const,
				})),
			});
			const swap = (index: number, to: string, from: string) => ({
				writes: [
					{ write: { case: "set", value: setOf(name, `${to}/gone/${index}`, 1) } as const },
					{ write: { case: "delete", value: { store: name, key: `${from}/gone/${index}` } } as const },
				],
			});
			const pairs = 700;
			await Promise.all(Array.from({ length: pairs }, (_, index) => plugin.stores.transact(pair(index, 0))));
			await Promise.all(Array.from({ length: 50 }, (_, index) => plugin.stores.transact(swap(index, "z", "a"))));
			let writing = true;
			let written = 0;
			const write = async (worker: number) => {
				for (let round = 1; writing; round++) {
					await plugin.stores.transact(pair((round * 31 + worker) % pairs, round));
					const index = (round + worker) % 50;
					const isEven = round % 100 < 50;
					await plugin.stores.transact(swap(index, isEven ? "a" : "z", isEven ? "z" : "a")).catch(() => {});
					written++;
				}
			};
			const writers = [1, 2, 3, 4].map(write);
			for (let round = 0; round < 5; round++) {
				const before = written;
				const lines = await backup(hub.operator, name);
				await restore(hub.operator, lines, { name: "copy" });
				const found = contents(await all(hub.operator, "copy"));
				expect(Object.keys(found)).toHaveLength(2 * pairs + 50);
				for (let index = 0; index < pairs; index++) expect(found[`a/${index}`]).toBe(found[`z/${index}`]);
				for (let index = 0; index < 50; index++) {
					expect(`a/gone/${index}` in found !== `z/gone/${index}` in found).toBe(true);
				}
				await hub.operator.stores.deleteStore({ name: "copy" });
				await until(() => written > before);
			}
			writing = false;
			await Promise.all(writers);
		}
	});

	it("is refused where it is damaged, with the line, and leaves nothing behind", async () => {
		await using hub = await start();
		const plugin = await hub.enrol("plugin");
		await plugin.stores.createStore({ name: "s" });
		for (const key of ["a", "b", "c"]) await plugin.stores.set({ set: setOf("s", key, key) });
		const lines = await backup(hub.operator, "s");
		const body = lines.slice(0, -1);
		const edited = (line: number, edit: (parsed: { entry: Record<string, unknown> }) => void) => {
			const parsed = JSON.parse(lines[line]!);
			edit(parsed);
			return resealed(body.with(line, JSON.stringify(parsed)));
		};
		const bad: [string, readonly string[], number][] = [
			["nothing", [], 0],
			["a line short", lines.slice(0, -1), 4],
			["only the header", lines.slice(0, 1), 1],
			["an entry less", [...lines.slice(0, 2), ...lines.slice(3)], 4],
			["an entry twice", [...lines.slice(0, 3), ...lines.slice(2)], 4],
			["entries in another order", resealed([lines[0]!, lines[2]!, lines[1]!, lines[3]!]), 3],
			["a byte changed", body.with(1, lines[1]!.replace('"a"', '"aa"')).concat(lines.at(-1)!), 5],
			["something behind it", [...lines, lines[1]!], 6],
			["no JSON", [lines[0]!, "{"], 2],
			["no object", [lines[0]!, "[]"], 2],
			["another format", ["{}", ...lines.slice(1)], 1],
			["a later version", [lines[0]!.replace('"version":1', '"version":2'), ...lines.slice(1)], 1],
			["a field nobody knows", edited(1, ({ entry }) => (entry.more = 1)), 2],
			["an entry without its value", edited(1, ({ entry }) => delete entry.value), 2],
			["a value that is no JSON", edited(1, ({ entry }) => (entry.value = { json: "{" })), 2],
			["a key that is too long", edited(3, ({ entry }) => (entry.key = "x".repeat(513))), 4],
			["a writer that is none", edited(1, ({ entry }) => (entry.writer = "NOBODY")), 2],
			["an entry without times", edited(1, ({ entry }) => delete entry.updateTime), 2],
		];
		for (const [what, given, line] of bad) {
			const failure: Failure = await failureOf(restore(hub.operator, given, { name: "copy" }, 1));
			expect([what, failure.code, failure.reason, failure.metadata.line]).toEqual([
				what,
				"InvalidArgument",
				"INVALID_BACKUP",
				String(line),
			]);
			expect(await failureOf(hub.operator.stores.getStore({ name: "copy" }))).toMatchObject({
				reason: "STORE_NOT_FOUND",
			});
		}
		expect((await failureOf(restore(hub.operator, lines, { name: "-" }))).fields).toEqual(["open.name"]);
		expect(await restore(hub.operator, lines, { name: "copy" }, 1)).toEqual({ entries: 3n, done: true });
		expect(contents(await all(hub.operator, "copy"))).toEqual({ a: "a", b: "b", c: "c" });
	});

	it("is for operators, and is undone where its stream ends early", async () => {
		const state = openMemoryState({ clock: systemClock, ids: randomIds });
		await using hub = await start({ state });
		const plugin = await hub.enrol("plugin");
		await plugin.stores.createStore({ name: "s", config: { quota: { keys: 10_000n } } });
		const writes = (from: number) =>
			Array.from({ length: 500 }, (_, index) => ({
				write: { case: "set", value: { store: "s", key: `k${from + index}`, value: json(index) } } as const,
			}));
		for (let from = 0; from < 3000; from += 500) await plugin.stores.transact({ writes: writes(from) });
		const lines = await backup(hub.operator, "s");
		expect(await failureOf(backup(plugin, "s"))).toMatchObject({ reason: "CALLER_NOT_ALLOWED" });
		expect(await failureOf(restore(plugin, lines))).toMatchObject({ reason: "CALLER_NOT_ALLOWED" });
		expect(await failureOf(backup(hub.operator, "none"))).toMatchObject({ reason: "STORE_NOT_FOUND" });
		const abort = new AbortController();
		async function* never() {
			yield { frame: { case: "open", value: { name: "copy" } } } as const;
			yield { frame: { case: "lines", value: { lines: lines.slice(0, 2500) } } } as const;
			await new Promise((resolve) => abort.signal.addEventListener("abort", resolve));
		}
		const frames = hub.operator.stores.restoreStore(never(), { signal: abort.signal })[Symbol.asyncIterator]();
		expect((await frames.next()).value).toMatchObject({ done: false });
		expect(await failureOf(plugin.stores.getStore({ name: "copy" }))).toMatchObject({ reason: "STORE_NOT_FOUND" });
		abort.abort();
		expect(await failureOf(frames.next())).toMatchObject({ code: "Canceled" });
		const epoch = (await hub.operator.stores.getStore({ name: "s" })).store!.epoch;
		const left = () =>
			["store/entry/", "store/usage/", "store/doomed/"].flatMap((prefix) => {
				const { entries } = state.kv.range({ start: prefix, end: prefixEnd(prefix), limit: 1000, reverse: true });
				const { entries: first } = state.kv.range({ start: prefix, end: prefixEnd(prefix), limit: 1000 });
				return [...entries, ...first].filter(({ key }) => !key.includes(epoch));
			});
		await until(() => left().length === 0);
		await restore(hub.operator, lines, { name: "copy" });
		expect((await hub.operator.stores.getStore({ name: "copy" })).store?.usage?.keys).toBe(3000n);
	});
});
