import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { StoreServiceListResponse } from "#gen/qirvo/hub/v1/entries_pb.js";
import { randomIds, systemClock } from "../../src/clock/system-clock.ts";
import { openEmbeddedState } from "../../src/state/embedded/open-embedded-state.ts";
import type { StateBackend } from "../../src/state/state-backend.ts";
import { type Clients, reasonOf, TestHub } from "../harness/hub.ts";
import { temporaryFolder } from "../harness/state-backends.ts";
import { parsed } from "../harness/store-values.ts";

const DISK_BYTES = 12 * 1024 * 1024;
const BALLAST_BYTES = 4 * 1024 * 1024;
const ROUNDS = Number(process.env.DISK_FULL_ROUNDS ?? 10);

/** Needs the right to mount a tmpfs, and fails saying so where that is missing. */
let folder: ReturnType<typeof temporaryFolder>;
let disk: string;
beforeEach(() => {
	folder = temporaryFolder();
	disk = join(folder.path, "disk");
	mkdirSync(disk);
	execFileSync("mount", ["-t", "tmpfs", "-o", `size=${DISK_BYTES}`, "tmpfs", disk]);
});
afterEach(() => {
	execFileSync("umount", [disk]);
	folder[Symbol.dispose]();
});

const open = (): Promise<StateBackend> =>
	openEmbeddedState({ directory: join(disk, "state"), clock: systemClock, ids: randomIds });

test("LOG-1 KV-2 a full disk refuses writes, keeps reads, and recovers by itself when room returns", async () => {
	const ballast = join(disk, "ballast");
	const stored: string[] = [];
	const keys: string[] = [];
	let refused = 0;
	{
		await using state = await open();
		const log = await state.log("events");
		let attempt = 0;
		for (let round = 0; round < ROUNDS; round++) {
			writeFileSync(ballast, Buffer.alloc(BALLAST_BYTES));
			const seen = refused;
			while (refused === seen) {
				const batch = Array.from({ length: 8 }, (_, index) => ({
					id: `${attempt}-${index}`,
					topic: `t.${index}`,
					bytes: Buffer.alloc(20_000, attempt),
				}));
				const key = `k/${attempt++}`;
				const [append, commit] = await Promise.allSettled([
					log.append(batch),
					state.kv.commit({ id: key, writes: [{ key, value: Buffer.alloc(1000) }] }),
				]);
				if (append.status === "fulfilled") stored.push(...batch.map((record) => record.id));
				if (commit.status === "fulfilled") keys.push(key);
				for (const result of [append, commit]) {
					if (result.status !== "rejected") continue;
					refused++;
					expect(result.reason).toMatchObject({ name: "StorageError", kind: "full", outcome: "not-written" });
				}
			}
			const shown = await idsIn(state);
			expect(shown).toEqual(stored.slice(-shown.length));
			rmSync(ballast);
			await log.append([{ id: `room-${round}`, topic: "t", bytes: Buffer.alloc(10) }]);
			stored.push(`room-${round}`);
			await log.trim({ maxRecords: 50 });
		}
	}
	await using state = await open();
	const kept = await idsIn(state);
	expect(kept.length).toBeGreaterThanOrEqual(50);
	expect(kept).toEqual(stored.slice(-kept.length));
	expect(
		state.kv
			.range({ start: "k/", limit: 1000 })
			.entries.map((entry) => entry.key)
			.toSorted(),
	).toEqual(keys.toSorted());
	expect(refused).toBeGreaterThanOrEqual(ROUNDS);
});

test("stores refuse writes on a full disk, go on to be read, and recover by themselves when room returns", async () => {
	const ballast = join(disk, "ballast");
	const written = new Map<string, number>();
	let refused = 0;
	for (const isRestarted of [false, true]) {
		await using hub = await TestHub.start({ directory: join(disk, "hub"), options: { state: "embedded" } });
		const { stores } = isRestarted ? hub.operator : await hub.enrol("plugin");
		if (!isRestarted) {
			await stores.createStore({ name: "s" });
			for (let round = 0, attempt = 0; round < ROUNDS; round++) {
				writeFileSync(ballast, Buffer.alloc(BALLAST_BYTES));
				for (const seen = refused; refused === seen; attempt++) {
					expect(attempt).toBeLessThan((round + 1) * 200);
					const keys = [`k${attempt}.a`, `k${attempt}.b`];
					const value = { body: { case: "json", value: JSON.stringify([attempt, "x".repeat(100_000)]) } } as const;
					const writes = keys.map((key) => ({ write: { case: "set", value: { store: "s", key, value } } }) as const);
					const failure = await stores.transact({ writes }).then(() => undefined, ConnectError.from);
					if (failure === undefined) for (const key of keys) written.set(key, attempt);
					else {
						refused++;
						expect([failure.code, reasonOf(failure)]).toEqual([Code.ResourceExhausted, "STORAGE_FULL"]);
					}
				}
				expect(await numbersIn(stores)).toEqual(written);
				rmSync(ballast);
				const room = await stores.increment({ increment: { store: "s", key: "rounds", delta: 1n } });
				expect(room.result?.number).toBe(BigInt(round + 1));
				for (const key of [...written.keys()].slice(0, -4)) {
					await stores.delete({ delete: { store: "s", key } });
					written.delete(key);
				}
			}
		}
		expect(await numbersIn(stores)).toEqual(written);
		expect(refused).toBe(ROUNDS);
	}
});

/** The number that each `k` entry begins with. */
async function numbersIn(stores: Clients["stores"]): Promise<Map<string, number>> {
	const numbers = new Map<string, number>();
	for (let pageToken: string | undefined = ""; pageToken !== undefined; ) {
		const page: StoreServiceListResponse = await stores.list({ store: "s", prefix: "k", pageToken });
		for (const { key, value } of page.entries) numbers.set(key, (parsed(value) as [number])[0]);
		pageToken = page.nextPageToken || undefined;
	}
	return numbers;
}

async function idsIn(state: StateBackend): Promise<string[]> {
	const log = await state.log("events");
	const ids: string[] = [];
	for (let next = log.bounds().first; next < log.bounds().next; ) {
		const page = await log.read({ from: { sequence: next }, maxRecords: 1000, maxBytes: 1 << 20 });
		ids.push(...page.records.map((record) => record.id));
		next = page.next;
	}
	return ids;
}
