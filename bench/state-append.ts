/**
 * How fast the embedded log takes and gives back records of 250 bytes. Prints one JSON line a measure.
 * Usage: node bench/state-append.ts [folder, default a fresh one under the system's temporary folder]
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { randomIds, systemClock } from "../src/clock/system-clock.ts";
import { openEmbeddedState } from "../src/state/embedded/open-embedded-state.ts";
import type { LogRecord, LogStore } from "../src/state/log-store.ts";

const RECORDS = 1_000_000;
const BATCH = 1000;
const SINGLES = 40_000;
const directory = mkdtempSync(join(process.argv[2] ?? tmpdir(), "state-append-"));
const bytes = new Uint8Array(250).fill(120);
let made = 0;

function record(): LogRecord {
	made++;
	return { id: `${made.toString(36).padStart(8, "0")}-0123456789abcdef`, topic: `topic.${made % 10}`, bytes };
}

async function measure(name: string, count: number, run: () => Promise<void>): Promise<void> {
	const start = performance.now();
	await run();
	const ms = performance.now() - start;
	console.log(JSON.stringify({ name, count, ms: Math.round(ms), perSecond: Math.round((count / ms) * 1000) }));
}

async function append(log: LogStore, count: number, batch: number, inFlight: number): Promise<void> {
	let left = count;
	const work = async () => {
		while (left > 0) {
			left -= batch;
			await log.append(Array.from({ length: batch }, record));
		}
	};
	await Promise.all(Array.from({ length: inFlight }, work));
}

async function readAll(log: LogStore): Promise<void> {
	for (let next = 1; next < log.bounds().next; ) {
		const page = await log.read({ from: { sequence: next }, maxRecords: 1000, maxBytes: 4 << 20 });
		next = page.next;
	}
}

const open = () => openEmbeddedState({ directory, clock: systemClock, ids: randomIds });
try {
	{
		await using state = await open();
		const log = await state.log("bench");
		await append(log, 50_000, BATCH, 8);
		await measure("append, batches of 1000, 8 in flight", RECORDS, () => append(log, RECORDS, BATCH, 8));
		await measure("append, one by one, 64 in flight", SINGLES, () => append(log, SINGLES, 1, 64));
		await measure("read forward", log.bounds().next - 1, () => readAll(log));
		await append(log, 1000, 1, 1000);
		const rare = Array.from({ length: 1000 }, () => ({ ...record(), topic: "rare" }));
		for (const one of rare) await Promise.all([log.append([one]), append(log, 300, 300, 1)]);
		const topics = { exact: ["rare"], matches: (topic: string) => topic === "rare" };
		await measure("read 1000 of one topic among all", 1000, async () => {
			for (let next = 1, found = 0; found < 1000; ) {
				const page = await log.read({ from: { sequence: next }, topics, maxRecords: 1000, maxBytes: 4 << 20 });
				found += page.records.length;
				next = page.next;
			}
		});
	}
	await measure("open with all of them in the window", 1, async () => {
		await using state = await open();
		await state.log("bench");
	});
} finally {
	rmSync(directory, { recursive: true });
}
