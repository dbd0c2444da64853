import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { randomIds, systemClock } from "../../src/clock/system-clock.ts";
import { openEnvironment } from "../../src/state/embedded/environment.ts";
import { readLogState, writeLogState } from "../../src/state/embedded/log-state.ts";
import { openEmbeddedState } from "../../src/state/embedded/open-embedded-state.ts";
import type { LogRecord } from "../../src/state/log-store.ts";
import { FakeClock, SequentialIds } from "../harness/fake-clock.ts";
import { temporaryFolder } from "../harness/state-backends.ts";

let folder: ReturnType<typeof temporaryFolder>;
let directory: string;
beforeEach(() => {
	folder = temporaryFolder();
	directory = join(folder.path, "state");
});
afterEach(() => folder[Symbol.dispose]());

const many = (count: number, prefix: string, topic = "t"): LogRecord[] =>
	Array.from({ length: count }, (_, index) => ({ id: `${prefix}${index}`, topic, bytes: new Uint8Array(1000) }));

/** Holds the loop up, so that what another thread does is done and not told when it goes on. */
function holdUp(ms: number): void {
	Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

test("LOG-7 a read while a trim is on the disk and not told yet begins at what is left", async () => {
	await using state = await openEmbeddedState({ directory, clock: systemClock, ids: randomIds });
	const log = await state.log("events");
	const topics = { exact: ["t"], matches: (topic: string) => topic === "t" };
	let untold = 0;
	for (let round = 0; round < 6; round++) {
		await log.append(many(1000, `${round}-`));
		const { first } = log.bounds();
		let done = false;
		const trimmed = log.trim({ maxRecords: 500 }).then(() => {
			done = true;
		});
		while (!done) {
			await new Promise((resolve) => setImmediate(resolve));
			holdUp(15);
			const before = log.bounds();
			for (const narrowed of [undefined, topics]) {
				const page = await log.read({ from: { sequence: first }, topics: narrowed, maxRecords: 1, maxBytes: 1 });
				expect(page.records[0]?.sequence).toBe(page.bounds.first);
				if (page.bounds.first > before.first) untold++;
			}
			const early = await log.read({ from: { time: 0 }, maxRecords: 1, maxBytes: 1 });
			expect(early.records).toHaveLength(1);
		}
		await trimmed;
	}
	expect(untold).toBeGreaterThan(0);
});

test("LOG-5 a log of more records than 32 bits count is read from a time", async () => {
	const clock = new FakeClock();
	const ids = new SequentialIds();
	{
		await using state = await openEmbeddedState({ directory, clock, ids });
		await state.log("events");
	}
	const environment = await openEnvironment(directory);
	const far = 2 ** 33;
	const old = readLogState(environment.meta, 1);
	await environment.root.transaction(() => writeLogState(environment.meta, 1, { ...old, first: far, next: far }));
	await environment.root.close();
	await using state = await openEmbeddedState({ directory, clock, ids });
	const log = await state.log("events");
	const start = clock.now();
	for (let round = 0; round < 5; round++) {
		await log.append(many(200, `${round}-`));
		await clock.advance(10);
	}
	const page = await log.read({ from: { time: start + 25 }, maxRecords: 1, maxBytes: 1 });
	expect(page.records[0]?.sequence).toBe(far + 600);
	expect((await log.append(many(1, "0-")))[0]).toMatchObject({ sequence: far, duplicate: true });
});
