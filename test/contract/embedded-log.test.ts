import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { randomIds, systemClock } from "../../src/clock/system-clock.ts";
import { openEnvironment } from "../../src/state/embedded/environment.ts";
import { readLogState, writeLogState } from "../../src/state/embedded/log-state.ts";
import { openEmbeddedState } from "../../src/state/embedded/open-embedded-state.ts";
import type { LogRecord } from "../../src/state/log-store.ts";
import { hashText } from "../../src/state/text-hash.ts";
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

/** Two topics of one `hashText(topic, 0)`; who looks for such a pair finds one in seconds. */
const TWINS = [
	"t.gfazvcxprmnfhavotineessrbdkwasowgljbntgmrqnldsbtvexnyixtalalrqyzieudakizalkpfrddazhkvvrpadcaowiqevtcyinracpagnalxabptrcrhwgmzfbliwsgkzazvbarvcgy",
	"t.xyzcdzbqjonubfwztineessrgayjdqpjgljbntgmrqnldsbtvexnyixtalalrqyzieudakizalkpfrddsaiujapvadcaowiqevtcyinracpagnalbmonzqnhhwgmzfbldtbxpaeqdiptioxw",
] as const;

test("LOG-5 topics with one hash do not hide each other", async () => {
	await using state = await openEmbeddedState({ directory, clock: systemClock, ids: randomIds });
	const log = await state.log("events");
	const [one, other] = TWINS;
	expect(hashText(one, 0)).toEqual(hashText(other, 0));
	const both = (id: string) => [...many(1, `${id}-one`, one), ...many(1, `${id}-other`, other)];
	await log.append([
		...many(1, "first", one),
		...many(300, "between"),
		...both("a"),
		...many(300, "after"),
		...both("b"),
	]);
	for (const [topic, expected] of [
		[one, [1, 302, 604]],
		[other, [303, 605]],
	] as const) {
		const topics = { exact: [topic], matches: (it: string) => it === topic };
		const page = await log.read({ from: { sequence: 1 }, topics, maxRecords: 100, maxBytes: 1 << 20 });
		expect(page.records.map(({ sequence }) => sequence)).toEqual(expected);
		const from = { sequence: 605 };
		const back = await log.read({ from, direction: "backward", topics, maxRecords: 100, maxBytes: 1 << 20 });
		expect(back.records.map(({ sequence }) => sequence)).toEqual(expected.toReversed());
	}
	const apart = [
		...many(1, "1", other),
		...many(100, "2"),
		...many(1, "3", one),
		...many(100, "4"),
		...many(1, "5", other),
	];
	await log.append(apart);
	const topics = { exact: [other], matches: (it: string) => it === other };
	const from = { sequence: 606 + 70 };
	const back = await log.read({ from, direction: "backward", topics, maxRecords: 1, maxBytes: 1 });
	expect(back.records.map(({ sequence }) => sequence)).toEqual([606]);
});
