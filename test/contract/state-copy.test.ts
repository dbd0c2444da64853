import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { randomIds, systemClock } from "../../src/clock/system-clock.ts";
import { BackupEncoder, BackupError } from "../../src/state/backup-file.ts";
import { openEnvironment } from "../../src/state/embedded/environment.ts";
import { openEmbeddedState } from "../../src/state/embedded/open-embedded-state.ts";
import { inspectBackup, restoreEmbeddedState } from "../../src/state/embedded/restore-state.ts";
import type { LogStore, StoredRecord } from "../../src/state/log-store.ts";
import { openMemoryState } from "../../src/state/memory/open-memory-state.ts";
import { type StateBackend, type StateCopy, StateOpenError } from "../../src/state/state-backend.ts";
import { until } from "../harness/hub.ts";
import { temporaryFolder } from "../harness/state-backends.ts";

const parts = { clock: systemClock, ids: randomIds };
const visitor = { entry() {}, record() {} };
let folder: ReturnType<typeof temporaryFolder>;
beforeEach(() => {
	folder = temporaryFolder();
});
afterEach(() => folder[Symbol.dispose]());

const open = (name = "data") => openEmbeddedState({ directory: join(folder.path, name), ...parts });
const put = (state: StateBackend, ...pairs: (readonly [string, string])[]) =>
	state.kv.commit({ id: randomIds.next(), writes: pairs.map(([key, value]) => ({ key, value: Buffer.from(value) })) });
const text = (state: StateBackend, key: string) => Buffer.from(state.kv.get(key)?.value ?? []).toString();

/** A backup file of the copy. */
async function write(copy: StateCopy, name: string): Promise<string> {
	const encoder = new BackupEncoder();
	const pieces = [encoder.head({ hubVersion: "1.2.3", stateFormat: copy.format, time: 5, bytes: copy.bytes })];
	for await (const piece of copy.read()) pieces.push(encoder.piece(piece));
	pieces.push(encoder.tail());
	await copy[Symbol.asyncDispose]();
	const file = join(folder.path, name);
	writeFileSync(file, Buffer.concat(pieces));
	return file;
}

const restore = (file: string, name: string) =>
	restoreEmbeddedState({ file, directory: join(folder.path, name), ids: randomIds, visitor, renew: () => undefined });

/** A backup of a little of everything. */
async function smallBackup(): Promise<string> {
	await using state = await open();
	const log = await state.log("things");
	await put(state, ["a", "1"], ["b", "2"]);
	await log.append([1, 2, 3].map((n) => ({ id: `id${n}`, topic: `t${n}`, bytes: Buffer.from(String(n)) })));
	return await write((await state.copy())!, "backup");
}

describe("a copy of the state", () => {
	it("is of one moment, while writes go on", async () => {
		await using state = await open();
		const log = await state.log("things");
		const filler = Buffer.alloc(20_000, 1).toString("latin1");
		await Promise.all(Array.from({ length: 500 }, (_, at) => put(state, [`filler/${at}`, filler])));
		let going = true;
		let written = 0;
		const writers = [0, 1, 2].map(async (writer) => {
			for (let round = 1; going; round++) {
				// Both keys, or none; the log after them.
				await put(state, [`pair/${writer}/left`, String(round)], [`pair/${writer}/right`, String(round)]);
				await log.append([{ id: `${writer}-${round}`, topic: `t${writer}`, bytes: Buffer.from(String(round)) }]);
				written++;
			}
		});
		await until(() => written >= 3);
		const files: { file: string; before: number }[] = [];
		for (let at = 0; at < 3; at++) {
			const before = written;
			files.push({ file: await write((await state.copy())!, `backup${at}`), before });
			expect(written, "writes wait for no copy").toBeGreaterThan(before);
		}
		going = false;
		await Promise.all(writers);
		for (const [at, { file, before }] of files.entries()) {
			const inspected = await restore(file, `restored${at}`);
			await using restored = await open(`restored${at}`);
			const restoredLog = await restored.log("things");
			const stored = await readAll(restoredLog);
			let rounds = 0;
			for (const writer of [0, 1, 2]) {
				const left = Number(text(restored, `pair/${writer}/left`));
				expect(text(restored, `pair/${writer}/right`)).toBe(String(left));
				const own = stored.filter(({ topic }) => topic === `t${writer}`);
				expect([left, left - 1]).toContain(own.length);
				rounds += own.length;
			}
			// All that was acknowledged before the copy was asked for.
			expect(rounds).toBeGreaterThanOrEqual(before);
			expect(inspected.logs).toEqual([{ name: "things", records: rounds, blocks: expect.any(Number) }]);
			expect(inspected.entries).toBe(506);
		}
	});

	it("leaves nothing behind, and what an ended process left is removed", async () => {
		const stale = join(folder.path, "data", "backup.tmp");
		{
			await using state = await open();
			const copy = (await state.copy())!;
			expect(statSync(stale).mode & 0o777).toBe(0o700);
			expect(readdirSync(stale)).toHaveLength(1);
			await copy[Symbol.asyncDispose]();
			expect(readdirSync(stale)).toHaveLength(0);
			await state.copy();
		}
		expect(readdirSync(join(folder.path, "data"))).not.toContain("backup.tmp");
	});

	it("is not to be had of state in memory", async () => {
		await using state = openMemoryState(parts);
		expect(await state.copy()).toBeUndefined();
	});
});

describe("a restored state", () => {
	it("has what was there, and another numbering", async () => {
		const file = await smallBackup();
		const inspected = await restore(file, "restored");
		expect(inspected).toMatchObject({ entries: 2, description: { hubVersion: "1.2.3", time: 5 } });
		await using before = await open();
		await using after = await open("restored");
		expect([text(after, "a"), text(after, "b")]).toEqual(["1", "2"]);
		const [oldLog, newLog] = [await before.log("things"), await after.log("things")];
		expect(newLog.bounds()).toEqual(oldLog.bounds());
		expect(newLog.epoch).not.toBe(oldLog.epoch);
		// No revision that the old hub may have given out comes again.
		expect(after.kv.get("a")?.revision).toBe(before.kv.get("a")?.revision);
		const [old, renewed] = [await put(before, ["c", "old"]), await put(after, ["c", "new"])];
		expect(old.ok && renewed.ok && renewed.revision - old.revision).toBe(2 ** 36);
		// Ids are still known.
		const [again] = await newLog.append([{ id: "id2", topic: "t2", bytes: Buffer.from("2") }]);
		expect(again).toMatchObject({ sequence: 2 });
		expect(statSync(join(folder.path, "restored", "state.mdb")).mode & 0o777).toBe(0o600);
	});

	it("can be backed up and restored again", async () => {
		await restore(await smallBackup(), "second");
		let file: string;
		{
			await using state = await open("second");
			await put(state, ["d", "4"]);
			file = await write((await state.copy())!, "backup2");
		}
		expect(await restore(file, "third")).toMatchObject({ entries: 3 });
		await using state = await open("third");
		expect(text(state, "d")).toBe("4");
	});

	it("is not put over anything", async () => {
		const file = await smallBackup();
		const error = await restore(file, "data").catch((error: unknown) => error);
		expect(error).toBeInstanceOf(StateOpenError);
		expect(String(error)).toContain("is not empty: it has state.mdb");
		await using _running = await open("other");
		expect(String(await restore(file, "other").catch((error: unknown) => error))).toContain("is in use by another hub");
	});
});

describe("a backup that is not as it was written", () => {
	it("is refused wherever it is cut or changed, and leaves nothing", async () => {
		const file = await smallBackup();
		const whole = readFileSync(file);
		expect(await inspectBackup(file, visitor)).toMatchObject({ entries: 2 });
		const places = [0, 5, 16, 18, 30, 100, 200, 5000, whole.length - 40, whole.length - 32, whole.length - 1];
		const broken = places.flatMap((at) => {
			const changed = Buffer.from(whole);
			changed[at]! ^= 0x40;
			return [whole.subarray(0, at), changed];
		});
		broken.push(Buffer.concat([whole, Buffer.from("x")]), Buffer.concat([whole, Buffer.alloc(40)]), Buffer.alloc(0));
		for (const [at, bytes] of broken.entries()) {
			const damaged = join(folder.path, "damaged");
			writeFileSync(damaged, bytes);
			const error = await inspectBackup(damaged, visitor).catch((error: unknown) => error);
			expect(error, `${at}`).toBeInstanceOf(BackupError);
			expect(await restore(damaged, "empty").catch((error: unknown) => error)).toBeInstanceOf(BackupError);
			expect(readdirSync(join(folder.path, "empty"))).toEqual(["hub.lock"]);
		}
	});

	it("is refused where its digest holds and its state is damaged", async () => {
		await smallBackup();
		const damages: [string, (environment: Awaited<ReturnType<typeof openEnvironment>>) => void][] = [
			["holds no record", ({ kv }) => kv.put(Buffer.from("bad"), Buffer.from("x"))],
			["impossible revisions", ({ kv }) => kv.put(Buffer.from("bad"), Buffer.alloc(16, 0xff))],
			["is no UTF-8", ({ kv }) => kv.put(Buffer.from([0xff]), Buffer.alloc(20))],
			["lost its blocks", ({ blocks }) => void [...blocks.getKeys({})].map((key) => blocks.remove(Buffer.from(key)))],
			[
				"no whole block",
				({ blocks }) =>
					void [...blocks.getKeys({})].map((key) => blocks.put(Buffer.from(key), cut(blocks.getBinary(key)!))),
			],
			[
				"broken index",
				({ topics }) => topics.put(Buffer.from("0001000000000000000000000000ffff", "hex"), Buffer.alloc(4)),
			],
			["is of no log", ({ blocks }) => blocks.put(Buffer.from("0009000000000001", "hex"), Buffer.alloc(4))],
		];
		for (const [at, [problem, damage]] of damages.entries()) {
			const name = `damaged${at}`;
			await restore(join(folder.path, "backup"), name);
			const environment = await openEnvironment(join(folder.path, name));
			await environment.root.transaction(() => damage(environment));
			await environment.root.close();
			await using state = await open(name);
			const file = await write((await state.copy())!, `backup-${name}`);
			const error = await inspectBackup(file, visitor).catch((error: unknown) => error);
			expect(error).toBeInstanceOf(StateOpenError);
			expect(String(error)).toContain(problem);
		}
	});

	it("is refused where a visitor refuses what is in it", async () => {
		const file = await smallBackup();
		const record = () => {
			throw new Error("is no event");
		};
		expect(String(await inspectBackup(file, { ...visitor, record }).catch((error: unknown) => error))).toContain(
			"the log things cannot be read: is no event",
		);
	});
});

async function readAll(log: LogStore): Promise<StoredRecord[]> {
	const records: StoredRecord[] = [];
	for (let from = 1; from < log.bounds().next; ) {
		const page = await log.read({ from: { sequence: from }, maxRecords: 1000, maxBytes: 1 << 20 });
		records.push(...page.records);
		from = page.next;
	}
	return records;
}

function cut(bytes: Uint8Array): Buffer {
	return Buffer.from(bytes.subarray(0, bytes.byteLength - 1));
}
