/**
 * How fast the embedded keyspace takes commits of 1,000 entries of a store, 250 bytes each, over 20,000 keys, whose revisions
 * are checked. Prints one JSON line a measure, with what a write costs: processor time of the event loop, and of the process,
 * and how much of the time was spent collecting garbage.
 * Usage: node bench/state-commit.ts [folder, default a fresh one under the system's temporary folder]
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PerformanceObserver } from "node:perf_hooks";
import { randomIds, systemClock } from "../src/clock/system-clock.ts";
import { openEmbeddedState } from "../src/state/embedded/open-embedded-state.ts";
import { keys } from "../src/state/key-layout.ts";
import type { KvStore } from "../src/state/kv-store.ts";

const KEYS = 20_000;
const BATCH = 1000;
const COMMITS = 500;
const value = new Uint8Array(250).fill(120);
const entries = Array.from({ length: KEYS }, (_, at) => keys.storeEntry("0123456789abcdef", `key-${at}`));
/** Of each key. */
const revisions = new Float64Array(KEYS);
let commits = 0;
let collectedMs = 0;

new PerformanceObserver((list) => {
	for (const { duration } of list.getEntries()) collectedMs += duration;
}).observe({ entryTypes: ["gc"] });

async function measure(name: string, count: number, run: () => Promise<void>): Promise<void> {
	await new Promise(setImmediate);
	collectedMs = 0;
	const thread = process.threadCpuUsage();
	const all = process.cpuUsage();
	const start = performance.now();
	await run();
	const ms = performance.now() - start;
	const loop = process.threadCpuUsage(thread);
	const cpu = process.cpuUsage(all);
	await new Promise(setImmediate);
	console.log(
		JSON.stringify({
			name,
			count,
			ms: Math.round(ms),
			perSecond: Math.round((count / ms) * 1000),
			loopMicrosPerWrite: round((loop.user + loop.system) / count),
			processMicrosPerWrite: round((cpu.user + cpu.system) / count),
			gcPercent: round((collectedMs / ms) * 100),
		}),
	);
}

function round(figure: number): number {
	return Math.round(figure * 100) / 100;
}

/** Commits in flight at a time write different keys. */
async function write(kv: KvStore, count: number, batch: number, inFlight: number): Promise<void> {
	let left = count;
	const work = async () => {
		while (left > 0) {
			left--;
			const first = (commits++ * batch) % KEYS;
			const writes = Array.from({ length: batch }, (_, at) => ({
				key: entries[first + at]!,
				value,
				expected: revisions[first + at]!,
			}));
			const result = await kv.commit({ id: `commit-${commits}`, writes });
			if (!result.ok) throw new Error("a commit was refused");
			for (let at = 0; at < batch; at++) revisions[first + at] = result.firstRevision + at;
		}
	};
	await Promise.all(Array.from({ length: inFlight }, work));
}

const directory = mkdtempSync(join(process.argv[2] ?? tmpdir(), "state-commit-"));
try {
	await using state = await openEmbeddedState({ directory, clock: systemClock, ids: randomIds });
	const { kv } = state;
	await write(kv, 300, BATCH, 8);
	for (const inFlight of [1, 8]) {
		await measure(`commits of ${BATCH} writes, ${inFlight} in flight`, COMMITS * BATCH, () =>
			write(kv, COMMITS, BATCH, inFlight),
		);
	}
	await measure("commits of one write, 64 in flight", 40_000, () => write(kv, 40_000, 1, 64));
} finally {
	rmSync(directory, { recursive: true });
}
