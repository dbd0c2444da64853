import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { CompactedError, KV_LIMITS, type KvChange, type KvStore, StorageError } from "../../src/state/kv-store.ts";
import { prefixEnd } from "../../src/state/state-backend.ts";
import { backends, type OpenedState } from "../harness/state-backends.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (value: Uint8Array | undefined) => (value === undefined ? undefined : new TextDecoder().decode(value));

describe.each(backends)("KvStore on $name", ({ open }) => {
	let opened: OpenedState;
	let kv: KvStore;
	let commits = 0;
	beforeEach(async () => {
		opened = await open();
		kv = opened.state.kv;
	});
	afterEach(() => opened[Symbol.asyncDispose]());

	const put = (entries: Record<string, string>, checks: { key: string; revision: number }[] = []) =>
		kv.commit({
			id: `commit-${++commits}`,
			checks,
			writes: Object.entries(entries).map(([key, value]) => ({ key, value: bytes(value) })),
		});
	const keys = (query: { start: string; end?: string; limit?: number; reverse?: boolean }) =>
		kv.range({ limit: 1000, ...query }).entries.map((entry) => entry.key);

	test("KV-1 a read sees a settled commit, with both revisions", async () => {
		await put({ a: "1" });
		await put({ b: "1" });
		const result = await put({ a: "2" });
		expect(result).toEqual({ ok: true, firstRevision: 3, revision: 3 });
		expect(kv.get("a")).toMatchObject({ key: "a", revision: 3, createRevision: 1 });
		expect(text(kv.get("a")?.value)).toBe("2");
		expect(kv.revision).toBe(3);
		await kv.barrier();
	});

	test("KV-1 a value stays what it was when its key is written again", async () => {
		await put({ a: "old" });
		const before = kv.get("a");
		const big = "x".repeat(200_000);
		await put({ a: big });
		const large = kv.get("a");
		await put({ a: "y".repeat(200_000) });
		expect(text(before?.value)).toBe("old");
		expect(text(large?.value)).toBe(big);
	});

	test("KV-1 pages are bounded by entries, say whether there is more, and can go backwards", async () => {
		await put({ "k/1": "1", "k/2": "2", "k/3": "3", l: "4", j: "0" });
		const range = { start: "k/", end: prefixEnd("k/") };
		expect(keys(range)).toEqual(["k/1", "k/2", "k/3"]);
		expect(keys({ ...range, reverse: true })).toEqual(["k/3", "k/2", "k/1"]);
		const page = kv.range({ ...range, limit: 2 });
		expect(page.entries.map((entry) => entry.key)).toEqual(["k/1", "k/2"]);
		expect(page).toMatchObject({ more: true, revision: 5 });
		expect(kv.range({ ...range, limit: 3 }).more).toBe(false);
		expect(kv.range({ ...range, limit: 2, reverse: true }).more).toBe(true);
		expect(keys({ start: "" })).toEqual(["j", "k/1", "k/2", "k/3", "l"]);
		expect(keys({ start: "", reverse: true })).toEqual(["l", "k/3", "k/2", "k/1", "j"]);
		expect(keys({ start: "l", end: "k/" })).toEqual([]);
		expect(() => kv.range({ start: "", limit: 1001 })).toThrow(RangeError);
	});

	test("KV-1 pages are bounded by bytes", async () => {
		const value = "v".repeat(300 * 1024);
		await put({ a: value, b: value, c: value, d: value });
		const page = kv.range({ start: "", limit: 10 });
		expect(page.entries).toHaveLength(3);
		expect(page.more).toBe(true);
		await put({ e: "v".repeat(3 * 1024 * 1024) });
		expect(kv.range({ start: "e", limit: 10 }).entries).toHaveLength(1);
	});

	test("KV-1 keys order by their UTF-8 bytes", async () => {
		await put({ "\u{1f600}": "", "\uffee": "", é: "", z: "", Z: "", "\u0000": "" });
		expect(keys({ start: "" })).toEqual(["\u0000", "Z", "z", "é", "\uffee", "\u{1f600}"]);
	});

	test("KV-2 a commit with a failed check writes nothing and tells what is there", async () => {
		await put({ a: "1" });
		const result = await kv.commit({
			id: "checked",
			checks: [
				{ key: "a", revision: 0 },
				{ key: "b", revision: 7 },
				{ key: "c", revision: 0 },
			],
			writes: [{ key: "a", value: bytes("2") }],
		});
		expect(result).toEqual({
			ok: false,
			conflicts: [
				{ key: "a", actual: 1 },
				{ key: "b", actual: 0 },
			],
		});
		expect(text(kv.get("a")?.value)).toBe("1");
		expect(kv.revision).toBe(1);
	});

	test("KV-2 a write that expects another revision is a failed check", async () => {
		await put({ a: "1", b: "1" });
		const commit = (expected: number) =>
			kv.commit({
				id: `expects-${expected}`,
				checks: [{ key: "a", revision: 1 }],
				writes: [
					{ key: "b", value: bytes("2"), expected },
					{ key: "a", delete: true, expected: 1 },
					{ key: "c", value: bytes("2"), expected: 0 },
				],
			});
		expect(await commit(3)).toEqual({ ok: false, conflicts: [{ key: "b", actual: 2 }] });
		expect(text(kv.get("b")?.value)).toBe("1");
		expect(await commit(2)).toMatchObject({ ok: true, firstRevision: 3, revision: 5 });
		expect(kv.get("b")).toMatchObject({ revision: 3, createRevision: 2 });
		expect(kv.get("a")).toBeUndefined();
		expect(kv.get("c")).toMatchObject({ revision: 5, createRevision: 5 });
		const negative = kv.commit({ id: "negative", writes: [{ key: "a", value: bytes("1"), expected: -1 }] });
		await expect(negative).rejects.toThrow(RangeError);
	});

	test("KV-2 a value may be bytes that copy themselves", async () => {
		const all = Buffer.from("..inner..");
		const inner = { byteLength: 5, copyTo: (target: Buffer, at: number) => void all.copy(target, at, 2, 7) };
		expect(await kv.commit({ id: "copied", writes: [{ key: "a", value: inner }] })).toMatchObject({ ok: true });
		all.fill(0);
		expect(text(kv.get("a")?.value)).toBe("inner");
	});

	test("KV-2 limits: writes, bytes, a key once, ids", async () => {
		const write = (key: string, value = "") => ({ key, value: bytes(value) });
		const commit = (writes: { key: string; value: Uint8Array }[], id = "limits") => kv.commit({ id, writes });
		await expect(
			commit(Array.from({ length: kv.capabilities.commitWrites + 1 }, (_, i) => write(`k${i}`))),
		).rejects.toThrow(RangeError);
		await expect(commit([write("a", "v".repeat(KV_LIMITS.commitBytes))])).rejects.toThrow(RangeError);
		await expect(commit([write("a"), write("a")])).rejects.toThrow(RangeError);
		await expect(commit([write("a")], "")).rejects.toThrow(RangeError);
		await expect(commit([write("a")], "i".repeat(65))).rejects.toThrow(RangeError);
		expect(kv.revision).toBe(0);
		expect(await commit(Array.from({ length: 1000 }, (_, i) => write(`k${i}`)))).toMatchObject({ revision: 1000 });
	});

	test("KV-3 the writes of a commit get consecutive revisions, deletes too", async () => {
		await put({ a: "1" });
		const result = await kv.commit({
			id: "mixed",
			writes: [
				{ key: "b", value: bytes("1") },
				{ key: "a", delete: true },
				{ key: "c", value: bytes("1") },
			],
		});
		expect(result).toEqual({ ok: true, firstRevision: 2, revision: 4 });
		expect(kv.get("b")?.revision).toBe(2);
		expect(kv.get("c")?.revision).toBe(4);
		expect(await put({ a: "again" })).toMatchObject({ revision: 5 });
		expect(kv.get("a")).toMatchObject({ revision: 5, createRevision: 5 });
	});

	test("KV-3 commits in flight together are each all or nothing, and one of the contenders wins", async () => {
		await put({ counter: "0" });
		const contenders = Array.from({ length: 50 }, (_, i) =>
			put({ counter: `${i}`, [`k${i}`]: "" }, [{ key: "counter", revision: 1 }]),
		);
		const results = await Promise.all(contenders);
		const winner = results.findIndex((result) => result.ok);
		expect(results.filter((result) => result.ok)).toHaveLength(1);
		expect(text(kv.get("counter")?.value)).toBe(`${winner}`);
		expect(keys({ start: "k" })).toEqual([`k${winner}`]);
		expect(results.find((result) => !result.ok)).toEqual({ ok: false, conflicts: [{ key: "counter", actual: 2 }] });
	});

	test("KV-4 a repeat of an applied commit answers the same and writes nothing, also in flight", async () => {
		const commit = { id: "once", checks: [{ key: "a", revision: 0 }], writes: [{ key: "a", value: bytes("1") }] };
		const [first, second] = await Promise.all([kv.commit(commit), kv.commit(commit)]);
		expect(first).toEqual({ ok: true, firstRevision: 1, revision: 1 });
		expect(second).toEqual(first);
		await opened.reopen?.();
		kv = opened.state.kv;
		await opened.clock.advance(119_000);
		expect(await kv.commit(commit)).toEqual(first);
		expect(kv.revision).toBe(1);
		await opened.clock.advance(1_000);
		expect(await kv.commit(commit)).toEqual({ ok: false, conflicts: [{ key: "a", actual: 1 }] });
	});

	test("KV-4 a commit that was refused may be tried again under its id", async () => {
		const commit = { id: "retry", checks: [{ key: "a", revision: 1 }], writes: [{ key: "b", value: bytes("1") }] };
		expect(await kv.commit(commit)).toMatchObject({ ok: false });
		await put({ a: "1" });
		expect(await kv.commit(commit)).toMatchObject({ ok: true, revision: 2 });
	});

	test("KV-5 a watch tells changes from the moment of the call, with old values, by prefix", async () => {
		await put({ "plugin/a": "0" });
		const stop = new AbortController();
		const watch = kv.watch("plugin/", { signal: stop.signal });
		await put({ "plugin/a": "1", "other/x": "1", "plugin/b": "1", "policy/z": "1" });
		await kv.commit({ id: "delete", writes: [{ key: "plugin/a", delete: true }] });
		const told: KvChange[] = [];
		for await (const batch of watch) {
			told.push(...batch);
			if (told.length >= 3) stop.abort();
		}
		expect(told.map((c) => [c.key, text(c.oldValue), text(c.value), c.revision, c.lastOfCommit])).toEqual([
			["plugin/a", "0", "1", 2, false],
			["plugin/b", undefined, "1", 4, true],
			["plugin/a", "1", undefined, 6, true],
		]);
	});

	test("KV-5 a watch tells the note of a delete, as it was given, and no note where there was none", async () => {
		await put({ "plugin/a": "0", "plugin/b": "0" });
		const stop = new AbortController();
		const watch = kv.watch("plugin/", { signal: stop.signal });
		const note = bytes("why");
		const deletes = [{ key: "plugin/a", delete: true, note } as const, { key: "plugin/b", delete: true } as const];
		await kv.commit({ id: "delete", writes: deletes });
		note.fill(0);
		await put({ "plugin/a": "1" });
		const told: KvChange[] = [];
		for await (const batch of watch) {
			told.push(...batch);
			if (told.length >= 3) stop.abort();
		}
		expect(told.map((c) => [c.key, text(c.note)])).toEqual([
			["plugin/a", "why"],
			["plugin/b", undefined],
			["plugin/a", undefined],
		]);
	});

	test("KV-5 a waiting watch wakes on a change and on its signal", async () => {
		const stop = new AbortController();
		const watch = kv.watch("policy/", { signal: stop.signal })[Symbol.asyncIterator]();
		const first = watch.next();
		await put({ "plugin/not": "this" });
		await put({ "policy/a": "1" });
		expect((await first).value).toMatchObject([{ key: "policy/a", revision: 2 }]);
		const second = watch.next();
		stop.abort();
		expect(await second).toEqual({ done: true, value: undefined });
	});

	test("KV-5 a watch resumes after a revision; one from before the window, or from the future, is compacted", async () => {
		await put({ "plugin/a": "1" });
		const { revision } = kv.range({ start: "", limit: 1 });
		await put({ "plugin/b": "1" });
		const { signal } = new AbortController();
		const next = (after: number) => kv.watch("plugin/", { after, signal })[Symbol.asyncIterator]().next();
		expect((await next(revision)).value).toMatchObject([{ key: "plugin/b" }]);
		await expect(next(99)).rejects.toThrow(CompactedError);
		const value = "v".repeat(4_000_000);
		for (let round = 0; round < 9; round++) await put({ "plugin/large": value });
		await expect(next(revision)).rejects.toThrow(CompactedError);
		const late = next(kv.revision);
		await opened.clock.advance(700_000);
		await put({ "plugin/c": "1" });
		expect((await late).value).toMatchObject([{ key: "plugin/c" }]);
		await opened.clock.advance(700_000);
		await expect(next(kv.revision - 1)).rejects.toThrow(CompactedError);
		expect(() => kv.watch("unwatched/", { signal })).toThrow(RangeError);
	});

	test("KV-5 watches end when the state is closed", async () => {
		const { signal } = new AbortController();
		const waiting = kv.watch("plugin/", { signal })[Symbol.asyncIterator]().next();
		await opened.state[Symbol.asyncDispose]();
		expect(await waiting).toEqual({ done: true, value: undefined });
		await expect(put({ a: "1" })).rejects.toThrow(StorageError);
	});

	test("KV-6 a deleted key and one that never was look alike", async () => {
		await put({ a: "1" });
		await kv.commit({ id: "delete", writes: [{ key: "a", delete: true }] });
		expect(kv.get("a")).toBeUndefined();
		expect(kv.get("never")).toBeUndefined();
		expect(kv.range({ start: "", limit: 10 }).entries).toEqual([]);
		expect(await put({ a: "2" }, [{ key: "a", revision: 0 }])).toMatchObject({ ok: true });
	});

	test("KV-7 keys have 1 to 1,024 bytes and are well formed", async () => {
		await expect(put({ "": "1" })).rejects.toThrow(RangeError);
		await expect(put({ ["k".repeat(1025)]: "1" })).rejects.toThrow(RangeError);
		await expect(put({ ["é".repeat(513)]: "1" })).rejects.toThrow(RangeError);
		await expect(put({ "a\ud800": "1" })).rejects.toThrow(RangeError);
		await put({ ["é".repeat(512)]: "long" });
		expect(text(kv.get("é".repeat(512))?.value)).toBe("long");
		expect(kv.get("")).toBeUndefined();
		expect(kv.get("é".repeat(2000))).toBeUndefined();
		expect(kv.range({ start: `${"é".repeat(512)}\u0000`, limit: 1 }).entries).toEqual([]);
	});

	test("the volatile store keeps the same rules and does not outlive the state", async () => {
		kv = opened.state.volatileKv;
		expect(kv.capabilities.durable).toBe(false);
		expect(await put({ a: "1" })).toEqual({ ok: true, firstRevision: 1, revision: 1 });
		await opened.reopen?.();
		if (opened.reopen) expect(opened.state.volatileKv.get("a")).toBeUndefined();
	});
});
