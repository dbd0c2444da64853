import { spawn } from "node:child_process";
import { once } from "node:events";
import { statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Clock } from "../../src/clock/clock.ts";
import { randomIds, systemClock } from "../../src/clock/system-clock.ts";
import { FORMAT_VERSION, openEnvironment } from "../../src/state/embedded/environment.ts";
import { type GroupParticipant, GroupWriter } from "../../src/state/embedded/group-writer.ts";
import { openEmbeddedState } from "../../src/state/embedded/open-embedded-state.ts";
import type { StorageError } from "../../src/state/kv-store.ts";
import { FakeClock } from "../harness/fake-clock.ts";
import { SkippingClock } from "../harness/skipping-clock.ts";
import { temporaryFolder } from "../harness/state-backends.ts";

const value = new TextEncoder().encode("v");

describe("the embedded state", () => {
	let folder: ReturnType<typeof temporaryFolder>;
	let directory: string;
	beforeEach(() => {
		folder = temporaryFolder();
		directory = join(folder.path, "deep", "state");
	});
	afterEach(() => folder[Symbol.dispose]());

	const open = (clock: Clock = systemClock) => openEmbeddedState({ directory, clock, ids: randomIds });

	test("does not hold it against the disk that the process was halted during a commit", async () => {
		const clock = new SkippingClock();
		await using state = await open(clock);
		const committing = state.kv.commit({ id: "1", writes: [{ key: "plugin/a", value }] });
		await undefined;
		clock.skip(120_000);
		expect(await committing).toMatchObject({ ok: true });
	});

	test("keeps everything over a restart and goes on counting", async () => {
		{
			await using state = await open();
			const log = await state.log("events");
			await log.append([{ id: "a", topic: "t", bytes: value }]);
			await state.kv.commit({ id: "1", writes: [{ key: "plugin/a", value }] });
		}
		await using state = await open();
		const log = await state.log("events");
		expect((await log.append([{ id: "b", topic: "t", bytes: value }]))[0]?.sequence).toBe(2);
		expect(state.kv.revision).toBe(1);
		expect(await state.kv.commit({ id: "2", writes: [{ key: "b", value }] })).toMatchObject({ revision: 2 });
		expect(state.kv.get("plugin/a")).toMatchObject({ revision: 1, createRevision: 1 });
	});

	test("lives in a folder that only its owner may enter", async () => {
		await using _state = await open();
		expect(statSync(directory).mode & 0o777).toBe(0o700);
	});

	test("refuses data of a newer format and names both versions", async () => {
		await (await open())[Symbol.asyncDispose]();
		const environment = await openEnvironment(directory);
		await environment.meta.put(Buffer.from("format"), Buffer.from(String(FORMAT_VERSION + 6)));
		await environment.root.close();
		const refused = expect(open()).rejects;
		await refused.toMatchObject({
			name: "StateOpenError",
			kind: "newer-version",
			message: expect.stringMatching(new RegExp(`format ${FORMAT_VERSION + 6}\\b.*\\b${FORMAT_VERSION}$`)),
		});
	});

	test("refuses a folder that holds something else", async () => {
		await (await open())[Symbol.asyncDispose]();
		writeFileSync(join(directory, "state.mdb"), Buffer.alloc(65_536, 7));
		await expect(open()).rejects.toMatchObject({ name: "StateOpenError", kind: "damaged" });
		directory = join(directory, "hub.lock");
		await expect(open()).rejects.toMatchObject({ name: "StateOpenError", kind: "unusable" });
	});

	test("refuses a folder that this process has open, until it is closed", async () => {
		const first = await open();
		await expect(open()).rejects.toMatchObject({ name: "StateOpenError", kind: "in-use" });
		expect(await first.kv.commit({ id: "1", writes: [{ key: "a", value }] })).toMatchObject({ ok: true });
		await first[Symbol.asyncDispose]();
		await first[Symbol.asyncDispose]();
		await (await open())[Symbol.asyncDispose]();
	});

	test("refuses a folder that another process has open, until that process is dead", async () => {
		const writer = spawn(process.execPath, [join(import.meta.dirname, "crash-writer.ts"), directory, "0"], {
			stdio: ["ignore", "pipe", "inherit"],
		});
		await once(writer.stdout, "data");
		await expect(open()).rejects.toMatchObject({ name: "StateOpenError", kind: "in-use" });
		writer.kill("SIGKILL");
		await once(writer, "exit");
		await (await open())[Symbol.asyncDispose]();
	});

	test("writes that were taken before it was closed are stored", async () => {
		const state = await open();
		const log = await state.log("events");
		const taken = Promise.all([
			log.append([{ id: "a", topic: "t", bytes: value }]),
			state.kv.commit({ id: "1", writes: [{ key: "a", value }] }),
		]);
		await state[Symbol.asyncDispose]();
		expect(await taken).toMatchObject([[{ sequence: 1 }], { ok: true }]);
		await expect(state.log("late")).rejects.toMatchObject({ name: "StorageError", outcome: "not-written" });
	});

	describe("the group writer", () => {
		class Recorder implements GroupParticipant {
			readonly settled = Promise.withResolvers<StorageError | undefined>();
			readonly write: () => void;
			constructor(write: () => void) {
				this.write = write;
			}
			flushed(): void {
				this.settled.resolve(undefined);
			}
			failed(error: StorageError): void {
				this.settled.resolve(error);
			}
		}

		test("ends for good where a write throws, since half of it may be stored", async () => {
			const environment = await openEnvironment(folder.path);
			const writer = new GroupWriter(environment, new FakeClock());
			const broken = new Recorder(() => {
				throw new Error("half way");
			});
			writer.request(broken);
			expect(await broken.settled.promise).toMatchObject({ kind: "fatal", outcome: "unknown" });
			expect((await writer.ended).cause).toMatchObject({ message: "half way" });
			const next = new Recorder(() => {});
			writer.request(next);
			expect(await next.settled.promise).toMatchObject({ kind: "fatal" });
			await expect(writer.once(() => {})).rejects.toMatchObject({ kind: "fatal" });
			await writer.close();
			await environment.root.close();
		});

		test("ends for good where a commit does not settle within 30 seconds", async () => {
			const environment = await openEnvironment(folder.path);
			const clock = new FakeClock();
			const never = { root: { transaction: () => new Promise(() => {}), resetReadTxn() {} } };
			const writer = new GroupWriter({ ...environment, ...never } as unknown as typeof environment, clock);
			const stalled = new Recorder(() => {});
			writer.request(stalled);
			let ended = false;
			const end = writer.ended.then(() => {
				ended = true;
			});
			await clock.advance(29_999);
			expect(ended).toBe(false);
			await clock.advance(1);
			await end;
			expect(await stalled.settled.promise).toMatchObject({ kind: "fatal", outcome: "unknown" });
			expect(clock.pendingTimers).toBe(0);
			await environment.root.close();
		});
	});
});
