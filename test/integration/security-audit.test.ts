import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { AuditEntry } from "../../src/security/audit-entry.ts";
import { AuditLog } from "../../src/security/audit-log.ts";
import { decodeAuditRecord } from "../../src/security/audit-record.ts";
import { prefixes } from "../../src/state/key-layout.ts";
import { type KvStore, StorageError } from "../../src/state/kv-store.ts";
import type { LogStore } from "../../src/state/log-store.ts";
import { openMemoryState } from "../../src/state/memory/open-memory-state.ts";
import { FakeClock, SequentialIds } from "../harness/fake-clock.ts";

const DENIED: AuditEntry = { event: "message_denied", actor: "plugin:a", target: "plugin:b", reason: "because" };
const CHANGED: AuditEntry = { event: "trust_level_changed", actor: "operator:root", target: "plugin:a" };

/** A log whose appends can be made to fail. */
class FailingLog implements LogStore {
	failing = false;
	readonly #log: LogStore;

	constructor(log: LogStore) {
		this.#log = log;
	}

	get capabilities() {
		return this.#log.capabilities;
	}

	get epoch() {
		return this.#log.epoch;
	}

	bounds() {
		return this.#log.bounds();
	}

	async append(records: Parameters<LogStore["append"]>[0]) {
		if (this.failing) throw new StorageError("unavailable", "unknown", "out of order");
		return this.#log.append(records);
	}

	read(query: Parameters<LogStore["read"]>[0]) {
		return this.#log.read(query);
	}

	tail(listener: Parameters<LogStore["tail"]>[0]) {
		return this.#log.tail(listener);
	}

	trim(retention: Parameters<LogStore["trim"]>[0]) {
		return this.#log.trim(retention);
	}
}

let clock: FakeClock;
let kv: KvStore;
let changes: FailingLog;
let denials: FailingLog;
let audit: AuditLog;
const ids = new SequentialIds();

beforeEach(async () => {
	clock = new FakeClock();
	const state = openMemoryState({ clock, ids });
	kv = state.kv;
	changes = new FailingLog(await state.log("changes"));
	denials = new FailingLog(await state.log("denials"));
	audit = newAudit();
	await audit.start();
});
afterEach(async () => {
	await audit[Symbol.asyncDispose]();
	expect(clock.pendingTimers).toBe(0);
});

function newAudit(): AuditLog {
	return new AuditLog({ kv, changes, denials, clock, ids, maxWaiting: 10, maxRecords: 2000 });
}

async function recordsOf(log: LogStore) {
	const page = await log.read({ from: { sequence: 1 }, maxRecords: 1000, maxBytes: 1 << 24 });
	return page.records.map((record) => decodeAuditRecord(record.bytes));
}

function leftovers(): number {
	return kv.range({ start: prefixes.outboxAudit, end: `${prefixes.outboxAudit}~`, limit: 1000 }).entries.length;
}

describe("decisions that are stored already", () => {
	test("are recorded among the changes at once, or with the next change where the log has a fault", async () => {
		const decision: AuditEntry = { event: "dead_letters_deleted", actor: "operator:root", target: "plugin:a" };
		await audit.decided(decision);
		expect(await recordsOf(changes)).toMatchObject([decision]);
		changes.failing = true;
		await audit.decided({ ...decision, target: "plugin:b" });
		expect([(await recordsOf(changes)).length, leftovers(), audit.dropped]).toEqual([1, 1, 0]);
		changes.failing = false;
		const change = audit.change(CHANGED);
		await kv.commit({ id: ids.next(), writes: [change.write] });
		await change.settle();
		const targets = (await recordsOf(changes)).map(({ event, target }) => `${event} ${target}`);
		expect(targets.toSorted()).toEqual([
			"dead_letters_deleted plugin:a",
			"dead_letters_deleted plugin:b",
			"trust_level_changed plugin:a",
		]);
		expect(leftovers()).toBe(0);
	});
});

describe("denials", () => {
	test("are written with an id and a time, under their event as the topic", async () => {
		audit.record({ ...DENIED, requestId: "r", details: { message: "m".repeat(5000) } });
		await clock.advance(0);
		const [record] = await recordsOf(denials);
		expect(record).toMatchObject({ ...DENIED, requestId: "r", time: clock.now() });
		expect(record?.id).toMatch(/^id-/);
		expect(record?.details?.message).toHaveLength(1024);
		const page = await denials.read({ from: { sequence: 1 }, maxRecords: 1, maxBytes: 1 });
		expect(page.records[0]?.topic).toBe("message_denied");
	});

	test("that find no room are dropped and counted, and hold nobody up", async () => {
		denials.failing = true;
		for (let count = 0; count < 25; count++) audit.record(DENIED);
		expect(audit.dropped).toBe(15);
		denials.failing = false;
		await clock.advance(250);
		expect(await recordsOf(denials)).toHaveLength(10);
		audit.record(DENIED);
		await clock.advance(0);
		expect([audit.dropped, (await recordsOf(denials)).length]).toEqual([15, 11]);
	});

	test("survive a fault of the log once each", async () => {
		denials.failing = true;
		audit.record(DENIED);
		await clock.advance(1000);
		expect(await recordsOf(denials)).toEqual([]);
		denials.failing = false;
		await clock.advance(250);
		expect(await recordsOf(denials)).toHaveLength(1);
	});

	test("that wait are written before the end, or counted where that is not possible", async () => {
		audit.record(DENIED);
		await audit[Symbol.asyncDispose]();
		expect(await recordsOf(denials)).toHaveLength(1);
		audit.record(DENIED);
		expect(audit.dropped).toBe(1);

		audit = newAudit();
		await audit.start();
		denials.failing = true;
		audit.record(DENIED);
		await clock.advance(0);
		await audit[Symbol.asyncDispose]();
		expect(audit.dropped).toBe(1);
	});

	test("beyond a budget are summarized for the actor once a second, and those of others are recorded", async () => {
		await audit[Symbol.asyncDispose]();
		audit = new AuditLog({ kv, changes, denials, clock, ids });
		await audit.start();
		for (let count = 0; count < 150; count++) audit.record({ ...DENIED, actor: "plugin:loud" });
		audit.record({ ...DENIED, actor: "plugin:quiet" });
		await clock.advance(1000);
		const records = await recordsOf(denials);
		expect(records.filter(({ event, actor }) => event === "message_denied" && actor === "plugin:loud")).toHaveLength(
			100,
		);
		expect(records.slice(100)).toMatchObject([
			{ event: "message_denied", actor: "plugin:quiet" },
			{ event: "denials_summarized", actor: "plugin:loud", details: { count: "50" } },
		]);
		audit.record({ ...DENIED, actor: "plugin:loud" });
		await clock.advance(5000);
		expect(await recordsOf(denials)).toHaveLength(103);
		for (let count = 0; count < 101; count++) audit.record({ ...DENIED, actor: "plugin:loud" });
		await audit[Symbol.asyncDispose]();
		expect((await recordsOf(denials)).at(-1)).toMatchObject({ event: "denials_summarized", details: { count: "1" } });
	});

	test("are kept in a bounded number", async () => {
		for (let count = 0; count < 700; count++) {
			for (let batch = 0; batch < 10; batch++) audit.record({ ...DENIED, actor: `plugin:${count}` });
			await clock.advance(0);
		}
		const { first, next } = denials.bounds();
		expect(next - 1).toBe(7000);
		expect(next - first).toBeLessThanOrEqual(3000 + 1000);
	});
});

describe("a control change", () => {
	test("and its record are one commit, and the record reaches the log", async () => {
		const change = audit.change(CHANGED);
		await kv.commit({ id: "change", writes: [{ key: "policy/x", value: new Uint8Array(1) }, change.write] });
		expect(leftovers()).toBe(1);
		await change.settle();
		expect(leftovers()).toBe(0);
		expect(await recordsOf(changes)).toMatchObject([{ ...CHANGED, time: clock.now() }]);
		expect(await recordsOf(denials)).toEqual([]);
	});

	test("that a crash cut off is recorded at the next start, once", async () => {
		for (const name of ["one", "two"]) {
			const change = audit.change({ ...CHANGED, target: name });
			await kv.commit({ id: name, writes: [change.write] });
		}
		await audit[Symbol.asyncDispose]();
		audit = newAudit();
		await audit.start();
		expect((await recordsOf(changes)).map((record) => record.target)).toEqual(["one", "two"]);
		expect(leftovers()).toBe(0);
	});

	test("stands where its record cannot be moved, and the record follows with the next", async () => {
		changes.failing = true;
		const first = audit.change({ ...CHANGED, target: "one" });
		await kv.commit({ id: "one", writes: [first.write] });
		await first.settle();
		expect([leftovers(), await recordsOf(changes)]).toEqual([1, []]);
		changes.failing = false;
		const second = audit.change({ ...CHANGED, target: "two" });
		await kv.commit({ id: "two", writes: [second.write] });
		await second.settle();
		expect((await recordsOf(changes)).map((record) => record.target)).toEqual(["one", "two"]);
		expect(leftovers()).toBe(0);
	});

	test("whose record was moved and not yet deleted is not recorded again", async () => {
		const change = audit.change(CHANGED);
		await kv.commit({ id: "moved", writes: [change.write] });
		const key = change.write.key;
		const bytes = kv.get(key)!.value;
		await changes.append([{ id: decodeAuditRecord(bytes).id, topic: CHANGED.event, bytes }]);
		await audit[Symbol.asyncDispose]();
		audit = newAudit();
		await audit.start();
		expect(await recordsOf(changes)).toHaveLength(1);
	});
});
