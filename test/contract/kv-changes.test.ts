import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
	type ChangeReader,
	CompactedError,
	type KvChange,
	type KvStore,
	type KvWrite,
} from "../../src/state/kv-store.ts";
import { backends, type OpenedState } from "../harness/state-backends.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (value: Uint8Array | undefined) => (value === undefined ? undefined : Buffer.from(value).toString());

describe.each(backends)("the changes of a KvStore on $name", ({ open }) => {
	let opened: OpenedState;
	let kv: KvStore;
	let commits = 0;
	beforeEach(async () => {
		opened = await open();
		kv = opened.state.kv;
	});
	afterEach(() => opened[Symbol.asyncDispose]());

	const commit = (writes: readonly KvWrite[]) => kv.commit({ id: `commit-${++commits}`, writes });
	const put = (...keys: string[]) => commit(keys.map((key) => ({ key, value: bytes(`v${commits}`) })));
	const readAll = (reader: ChangeReader) => {
		const read: KvChange[] = [];
		for (let changes = reader.next(); changes !== undefined; changes = reader.next()) {
			read.push(...changes);
			reader.advance(changes.at(-1)!.revision);
		}
		return read;
	};
	const keysOf = (changes: readonly KvChange[]) => changes.map((change) => change.key);

	test("KV-5 a reader reads what changed under its prefix since it was made, when it likes", async () => {
		await put("store/entry/a/1");
		using reader = kv.read("store/entry/a/");
		expect(reader.next()).toBeUndefined();
		await put("store/entry/b/1", "store/entry/a/2", "store/entry/ab/1", "other");
		await put("store/entry/a/1");
		expect(reader.unread.changes).toBe(2);
		expect(keysOf(reader.next()!)).toEqual(["store/entry/a/2"]);
		expect(keysOf(reader.next()!)).toEqual(["store/entry/a/2"]);
		expect(keysOf(readAll(reader))).toEqual(["store/entry/a/2", "store/entry/a/1"]);
		expect(reader.revision).toBe(kv.revision);
		expect(reader.unread).toEqual({ changes: 0, bytes: 0 });
	});

	test("KV-5 a change tells the revisions of what is and was", async () => {
		using reader = kv.read("store/entry/a/");
		await put("store/entry/a/1");
		await put("x", "store/entry/a/1");
		await commit([{ key: "store/entry/a/1", delete: true, note: bytes("why") }]);
		await put("store/entry/a/1");
		const told = readAll(reader);
		expect(told.map((c) => [c.revision, c.createRevision, c.oldRevision])).toEqual([
			[1, 1, 0],
			[3, 1, 1],
			[4, 1, 3],
			[5, 5, 0],
		]);
		expect(text(told[2]!.note)).toBe("why");
	});

	test("KV-5 a reader may begin and go on inside a commit", async () => {
		await put("store/entry/a/1", "store/entry/a/2", "store/entry/a/3");
		using reader = kv.read("store/entry/a/", 1);
		expect(keysOf(reader.next()!)).toEqual(["store/entry/a/2", "store/entry/a/3"]);
		reader.advance(2);
		expect(reader.revision).toBe(2);
		expect(keysOf(reader.next()!)).toEqual(["store/entry/a/3"]);
	});

	test("KV-5 a waiting reader wakes once on a change under its prefix, or as a revision is come to", async () => {
		using reader = kv.read("store/entry/a/");
		let woken = 0;
		const wait = (revision?: number) => reader.wait(() => woken++, revision);
		expect(reader.next()).toBeUndefined();
		wait();
		await put("store/entry/b/1");
		expect(woken).toBe(0);
		await put("store/entry/a/1");
		await put("store/entry/a/2");
		expect(woken).toBe(1);
		readAll(reader);
		wait(kv.revision + 2);
		await put("other");
		expect(woken).toBe(1);
		await put("other");
		expect(woken).toBe(2);
		wait(kv.revision);
		expect(woken).toBe(3);
	});

	test("KV-5 a reader that has nothing to read moves on with the store, and is not overtaken by others", async () => {
		using reader = kv.read("store/entry/quiet/");
		const value = bytes("v".repeat(1_000_000));
		for (let round = 0; round < 140; round++) await commit([{ key: `store/entry/busy/${round % 3}`, value }]);
		expect(reader.next()).toBeUndefined();
		expect(reader.revision).toBe(kv.revision);
		const { revision } = kv;
		using late = kv.read("store/entry/quiet/", revision);
		await put("store/entry/quiet/1");
		expect(readAll(late)).toHaveLength(1);
	});

	test("KV-5 what is over the bounds is gone for its readers alone, and they are told", async () => {
		await put("store/entry/a/1", "plugin/a", "store/definition/a");
		await put("store/entry/a/1", "plugin/b", "store/definition/b");
		using reader = kv.read("store/entry/a/", 1);
		const value = bytes("v".repeat(3_900_000));
		for (let round = 0; round < 20; round++) await commit([{ key: "store/entry/a/large", value }]);
		expect(() => reader.next()).toThrow(CompactedError);
		expect(reader.oldest).toBeGreaterThan(6);
		using again = kv.read("store/entry/a/", reader.oldest);
		expect(readAll(again).at(-1)!.revision).toBe(kv.revision);
		expect(() => kv.read("store/entry/a/", reader.oldest - 1).next()).toThrow(CompactedError);
		expect(() => kv.read("store/entry/a/", kv.revision + 1).next()).toThrow(CompactedError);
		using plugins = kv.read("plugin/", 3);
		expect(keysOf(readAll(plugins))).toEqual(["plugin/b"]);
		using definitions = kv.read("store/definition/", 3);
		expect(keysOf(readAll(definitions))).toEqual(["store/definition/b"]);
	});

	test("KV-5 changes of entries stay for a hundred thousand, and for ten minutes", async () => {
		const keys = Array.from({ length: 1000 }, (_, i) => `store/entry/a/${i}`);
		for (let round = 0; round < 100; round++) await put(...keys);
		using reader = kv.read("store/entry/a/", 0);
		expect(readAll(reader)).toHaveLength(100_000);
		await opened.clock.advance(601_000);
		expect(() => kv.read("store/entry/a/", 0).next()).toThrow(CompactedError);
	});

	test("KV-5 the changes of the largest commit are told with what was there before", async () => {
		const many = kv.capabilities.commitWrites;
		const write = (at: number, value: string, expected: number) => ({
			key: `store/entry/a/${at}`,
			value: bytes(value),
			expected,
		});
		await commit(Array.from({ length: many }, (_, at) => write(at, `old ${at}`, 0)));
		using reader = kv.read("store/entry/a/");
		await commit(Array.from({ length: many }, (_, at) => write(at, `new ${at}`, at + 1)));
		const told = readAll(reader);
		expect(told).toHaveLength(many);
		for (const [at, change] of told.entries()) {
			const { revision, createRevision, oldRevision, oldValue, value } = change;
			expect([revision, createRevision, oldRevision]).toEqual([many + at + 1, at + 1, at + 1]);
			expect([text(oldValue), text(value)]).toEqual([`old ${at}`, `new ${at}`]);
		}
	});

	test("KV-5 silent writes are not told", async () => {
		await put("store/entry/a/1", "store/entry/a/2");
		using reader = kv.read("store/entry/a/");
		await commit([
			{ key: "store/entry/a/1", delete: true, silent: true },
			{ key: "store/entry/a/2", delete: true },
			{ key: "store/entry/a/3", value: bytes("3"), silent: true },
		]);
		expect(keysOf(readAll(reader))).toEqual(["store/entry/a/2"]);
		expect(kv.get("store/entry/a/1")).toBeUndefined();
		expect(text(kv.get("store/entry/a/3")?.value)).toBe("3");
	});

	test("KV-5 what is told stays what it was, whatever becomes of the bytes that were given", async () => {
		using reader = kv.read("store/entry/a/");
		const value = Buffer.from("as given");
		await commit([{ key: "store/entry/a/1", value }]);
		value.fill(0);
		expect(text(readAll(reader)[0]!.value)).toBe("as given");
	});

	test("KV-5 of prefixes that are kept by their next part, one part is read at a time", () => {
		expect(() => kv.read("store/entry/")).toThrow(RangeError);
		expect(() => kv.read("store/entry/a")).toThrow(RangeError);
		expect(() => kv.read("store/entry/a/b/")).toThrow(RangeError);
		expect(() => kv.read("store/usage/a/")).toThrow(RangeError);
	});
});
