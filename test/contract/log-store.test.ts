import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { StorageError } from "../../src/state/kv-store.ts";
import type { LogRead, LogRecord, LogStore, StoredRecord } from "../../src/state/log-store.ts";
import { backends, type OpenedState } from "../harness/state-backends.ts";

const record = (id: string, topic = "a.b", size = 10): LogRecord => ({
	id,
	topic,
	bytes: new Uint8Array(size).fill(id.length),
});
const many = (count: number, prefix: string, topic?: (index: number) => string, size = 100) =>
	Array.from({ length: count }, (_, index) => record(`${prefix}${index}`, topic?.(index), size));

describe.each(backends)("LogStore on $name", ({ open }) => {
	let opened: OpenedState;
	let log: LogStore;
	beforeEach(async () => {
		opened = await open();
		log = await opened.state.log("events", { rememberMs: 60_000, rememberIds: 5_000 });
	});
	afterEach(() => opened[Symbol.asyncDispose]());

	const reopen = async () => {
		await opened.reopen?.();
		log = await opened.state.log("events", { rememberMs: 60_000, rememberIds: 5_000 });
	};
	const readAll = async (query: Partial<LogRead> = {}) => {
		const records: StoredRecord[] = [];
		let from = query.from ?? { sequence: query.direction === "backward" ? Number.MAX_SAFE_INTEGER : 1 };
		for (let pages = 0; pages < 10_000; pages++) {
			const page = await log.read({ maxRecords: 1000, maxBytes: 1 << 20, ...query, from });
			records.push(...page.records);
			if (query.direction === "backward" ? page.next === 0 : page.next >= page.bounds.next) return records;
			from = { sequence: page.next };
		}
		throw new Error("a read does not end");
	};
	const sequences = (records: readonly StoredRecord[]) => records.map((stored) => stored.sequence);

	test("LOG-1 a batch is stored with consecutive sequences in the order given", async () => {
		const appended = await log.append([record("x"), record("y", "c.d"), record("z")]);
		expect(appended.map((one) => [one.sequence, one.duplicate])).toEqual([
			[1, false],
			[2, false],
			[3, false],
		]);
		const [, y] = await readAll();
		expect(y).toMatchObject({ id: "y", topic: "c.d", sequence: 2, time: opened.clock.now() });
		expect([...y!.bytes]).toEqual(Array(10).fill(1));
	});

	test("LOG-1 limits: records, ids, topics", async () => {
		await expect(log.append([])).rejects.toThrow(RangeError);
		await expect(log.append(many(1001, "i"))).rejects.toThrow(RangeError);
		await expect(log.append([record("")])).rejects.toThrow(RangeError);
		await expect(log.append([record("é".repeat(65))])).rejects.toThrow(RangeError);
		await expect(log.append([record("i\ud800")])).rejects.toThrow(RangeError);
		await expect(log.append([record("i", "t".repeat(1040))])).rejects.toThrow(RangeError);
		expect(log.bounds()).toMatchObject({ first: 1, next: 1 });
		await log.append([record("é".repeat(64), "ü".repeat(512))]);
		expect((await readAll())[0]).toMatchObject({ id: "é".repeat(64), topic: "ü".repeat(512) });
	});

	test("LOG-1 appends in flight together each stay whole and in their order of call", async () => {
		const batches = Array.from({ length: 40 }, (_, batch) => many(1 + ((batch * 37) % 300), `${batch}-`));
		const results = await Promise.all(batches.map((batch) => log.append(batch)));
		let next = 1;
		for (const result of results) for (const { sequence } of result) expect(sequence).toBe(next++);
		expect((await readAll()).map((stored) => stored.id)).toEqual(batches.flat().map((one) => one.id));
	});

	test("LOG-2 a repeat answers the original position and its neighbours are stored", async () => {
		const [original] = await log.append([record("a")]);
		await opened.clock.advance(1000);
		const again = await log.append([record("b"), record("a"), record("c"), record("b")]);
		expect(again.map((one) => [one.sequence, one.duplicate])).toEqual([
			[2, false],
			[1, true],
			[3, false],
			[2, true],
		]);
		expect(again[1]?.time).toBe(original?.time);
		expect(sequences(await readAll())).toEqual([1, 2, 3]);
	});

	test("LOG-2 repeats are found between appends in flight and across a restart", async () => {
		const [first, second] = await Promise.all([log.append(many(500, "i")), log.append(many(600, "i"))]);
		expect(
			second?.slice(0, 500).every((one, index) => one.duplicate && one.sequence === first?.[index]?.sequence),
		).toBe(true);
		await reopen();
		const third = await log.append(many(601, "i"));
		expect(third.filter((one) => !one.duplicate)).toEqual([
			{ sequence: 601, time: opened.clock.now(), duplicate: false },
		]);
	});

	test("LOG-2 ids are forgotten by age and by count, and never remembered where that is not wanted", async () => {
		const forget = { ...record("forget"), remember: false };
		await log.append([forget, record("keep")]);
		expect((await log.append([forget]))[0]?.duplicate).toBe(false);
		await opened.clock.advance(59_999);
		expect((await log.append([record("keep")]))[0]?.duplicate).toBe(true);
		await opened.clock.advance(1);
		expect((await log.append([record("keep")]))[0]?.duplicate).toBe(false);
		for (let batch = 0; batch < 5; batch++) await log.append(many(1000, `${batch}-`));
		expect((await log.append([record("keep")]))[0]?.duplicate).toBe(false);
		expect((await log.append([record("0-1")]))[0]?.duplicate).toBe(true);
		await reopen();
		expect((await log.append([record("4-999")]))[0]?.duplicate).toBe(true);
	});

	test("LOG-4 tails hear every batch once, in order, from where they were attached, views that stay valid", async () => {
		await log.append([record("before")]);
		const heard: StoredRecord[] = [];
		const attached = log.bounds().next;
		const tail = log.tail((batch) => heard.push(...batch));
		await Promise.all(Array.from({ length: 20 }, (_, batch) => log.append(many(50, `${batch}-`))));
		await log.append([record("before")]);
		tail[Symbol.dispose]();
		await log.append([record("after")]);
		expect(heard).toHaveLength(1000);
		const stored = (await readAll({ from: { sequence: attached } })).slice(0, 1000);
		expect(heard.map((one) => ({ ...one, bytes: [...one.bytes] }))).toEqual(
			stored.map((one) => ({ ...one, bytes: [...one.bytes] })),
		);
	});

	test("LOG-3 a tail hears only what a read shows", async () => {
		const checked: Promise<boolean>[] = [];
		log.tail((batch) => {
			const last = batch.at(-1)!;
			const read = log.read({ from: { sequence: last.sequence }, maxRecords: 1, maxBytes: 1 });
			checked.push(read.then((page) => page.records[0]?.id === last.id && log.bounds().next > last.sequence));
		});
		await Promise.all(Array.from({ length: 10 }, (_, batch) => log.append(many(10, `${batch}-`))));
		expect(checked.length).toBeGreaterThan(0);
		expect(await Promise.all(checked)).toEqual(checked.map(() => true));
	});

	test("LOG-5 pages are bounded by records and bytes and say where the next begins", async () => {
		await log.append(many(500, "i"));
		const page = await log.read({ from: { sequence: 10 }, maxRecords: 7, maxBytes: 1 << 20 });
		expect(sequences(page.records)).toEqual([10, 11, 12, 13, 14, 15, 16]);
		expect(page.next).toBe(17);
		const small = await log.read({ from: { sequence: 1 }, maxRecords: 1000, maxBytes: 1000 });
		expect(small.records.length).toBeGreaterThan(1);
		expect(small.records.length).toBeLessThan(11);
		const one = await log.read({ from: { sequence: 5 }, maxRecords: 1000, maxBytes: 1 });
		expect(sequences(one.records)).toEqual([5]);
		const end = await log.read({ from: { sequence: 501 }, maxRecords: 10, maxBytes: 1000 });
		expect(end).toMatchObject({ records: [], next: 501 });
		await expect(log.read({ from: { sequence: 1 }, maxRecords: 1001, maxBytes: 1 })).rejects.toThrow(RangeError);
	});

	test("LOG-5 backwards ends at 0", async () => {
		await log.append(many(700, "i"));
		const page = await log.read({ from: { sequence: 300 }, direction: "backward", maxRecords: 3, maxBytes: 1 << 20 });
		expect(sequences(page.records)).toEqual([300, 299, 298]);
		expect(page.next).toBe(297);
		expect(sequences(await readAll({ direction: "backward" }))).toEqual(Array.from({ length: 700 }, (_, i) => 700 - i));
	});

	test("LOG-5 reads from a time, in both directions", async () => {
		const start = opened.clock.now();
		for (let round = 0; round < 30; round++) {
			await log.append(many(3, `${round}-`));
			await opened.clock.advance(10);
		}
		const from = (time: number, direction: "forward" | "backward") =>
			log.read({ from: { time }, direction, maxRecords: 1, maxBytes: 1 }).then((page) => page.records[0]?.sequence);
		expect(await from(start, "forward")).toBe(1);
		expect(await from(start + 50, "forward")).toBe(16);
		expect(await from(start + 51, "forward")).toBe(19);
		expect(await from(start + 50, "backward")).toBe(18);
		expect(await from(start + 49, "backward")).toBe(15);
		expect(await from(start - 1, "backward")).toBeUndefined();
		expect(await from(start + 10_000, "forward")).toBeUndefined();
		expect(await from(start + 10_000, "backward")).toBe(90);
	});

	test("LOG-5 narrowing by topic misses nothing, in both directions, across blocks", async () => {
		const topicOf = (index: number) =>
			index % 701 === 3 ? "rare.one" : index % 997 === 5 ? "rare.two" : `t.${index % 7}`;
		for (let batch = 0; batch < 6; batch++) {
			const records = many(1000, `${batch}-`, (index) => topicOf(batch * 1000 + index), 300);
			await Promise.all([log.append(records.slice(0, 400)), log.append(records.slice(400))]);
		}
		const all = await readAll();
		for (const wanted of [["rare.one"], ["rare.two", "rare.one"], ["t.3"], ["absent"]]) {
			const expected = sequences(all.filter((one) => wanted.includes(one.topic)));
			const topics = { exact: wanted, matches: (topic: string) => wanted.includes(topic) };
			const only = (records: StoredRecord[]) => sequences(records.filter((one) => wanted.includes(one.topic)));
			expect(only(await readAll({ topics }))).toEqual(expected);
			expect(only(await readAll({ topics, maxRecords: 2 }))).toEqual(expected);
			expect(only(await readAll({ topics, direction: "backward" }))).toEqual(expected.toReversed());
			expect(only(await readAll({ topics: { matches: topics.matches } }))).toEqual(expected);
			for (const middle of [1500, 3333, 5999]) {
				const tail = expected.filter((sequence) => sequence >= middle);
				expect(only(await readAll({ topics, from: { sequence: middle } }))).toEqual(tail);
				const head = expected.filter((sequence) => sequence <= middle).toReversed();
				expect(only(await readAll({ topics, from: { sequence: middle }, direction: "backward" }))).toEqual(head);
			}
		}
	});

	test("LOG-5 records of any size come back whole", async () => {
		const sizes = [0, 1, 65_536, 3_000_000, 5, 70_000];
		await log.append(sizes.map((size, index) => record(`s${index}`, "sized", size)));
		const stored = await readAll();
		expect(stored.map((one) => one.bytes.byteLength)).toEqual(sizes);
		expect(stored.every((one) => one.bytes.every((byte) => byte === 2))).toBe(true);
	});

	test("LOG-6 a name opened twice is one log; logs do not mix; the epoch is kept with the log", async () => {
		expect(await opened.state.log("events")).toBe(log);
		const other = await opened.state.log("denials");
		await other.append([record("x")]);
		expect(log.bounds().next).toBe(1);
		await log.append(many(3, "i"));
		expect((await other.append([record("i1")]))[0]).toMatchObject({ sequence: 2, duplicate: false });
		expect(log.epoch).toMatch(/^[A-Za-z0-9_-]{1,32}$/);
		const { epoch } = log;
		await reopen();
		expect(log.epoch).toBe(epoch);
		expect(sequences(await readAll())).toEqual([1, 2, 3]);
		await expect(opened.state.log("Events")).rejects.toThrow(RangeError);
	});

	test("LOG-7 trims by records, bytes and age, whole blocks from the oldest, and sequences go on", async () => {
		for (let batch = 0; batch < 20; batch++) {
			await log.append(many(100, `${batch}-`, (index) => `t.${index % 3}`, 1000));
			await opened.clock.advance(1000);
		}
		await log.trim({ maxRecords: 5000, maxBytes: 1e9, maxAgeMs: 1e9 });
		expect(log.bounds().first).toBe(1);
		await log.trim({ maxRecords: 1500 });
		let { first, next } = log.bounds();
		expect(next - first).toBeGreaterThanOrEqual(1500);
		expect(next - first).toBeLessThan(1800);
		await log.trim({ maxBytes: 800_000 });
		expect(log.bounds().bytes).toBeGreaterThanOrEqual(800_000);
		expect(log.bounds().bytes).toBeLessThan(1_200_000);
		await log.trim({ maxAgeMs: 5500 });
		({ first, next } = log.bounds());
		expect(next).toBe(2001);
		expect(first).toBeGreaterThan(1200);
		expect(first).toBeLessThanOrEqual(1501);
		const page = await log.read({ from: { sequence: 1 }, maxRecords: 1, maxBytes: 1 });
		expect(page.records[0]?.sequence).toBe(first);
		expect(page.bounds.first).toBe(first);
		const topics = { exact: ["t.1"], matches: (topic: string) => topic === "t.1" };
		expect((await readAll({ topics }))[0]?.sequence).toBeLessThan(first + 3);
		expect((await readAll({ topics, direction: "backward" })).at(-1)?.sequence).toBeLessThan(first + 3);
		await opened.clock.advance(100_000);
		await log.trim({ maxAgeMs: 1 });
		expect(log.bounds()).toEqual({ first: 2001, next: 2001, bytes: 0 });
		await reopen();
		expect(await readAll()).toEqual([]);
		if (opened.reopen) expect((await log.append([record("on")]))[0]?.sequence).toBe(2001);
	});

	test("LOG-8 times never decrease where the clock steps back, also across a restart", async () => {
		const time = opened.clock.now();
		await log.append([record("a")]);
		opened.clock.stepWall(-50_000);
		if (opened.reopen) await reopen();
		await log.append([record("b")]);
		opened.clock.stepWall(60_000);
		await log.append([record("c")]);
		expect((await readAll()).map((one) => one.time)).toEqual([time, time, time + 10_000]);
	});

	test("a closed log refuses what comes", async () => {
		await opened.state[Symbol.asyncDispose]();
		await expect(log.append([record("a")])).rejects.toThrow(StorageError);
	});
});
