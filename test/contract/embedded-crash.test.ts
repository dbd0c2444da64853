import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openEmbeddedState } from "../../src/state/embedded/open-embedded-state.ts";
import type { StoredRecord } from "../../src/state/log-store.ts";
import { prefixEnd, type StateBackend } from "../../src/state/state-backend.ts";
import { FakeClock, SequentialIds } from "../harness/fake-clock.ts";
import { temporaryFolder } from "../harness/state-backends.ts";
import { batchOf, CrashLedger, commitOf } from "./crash-ledger.ts";

const CYCLES = Number(process.env.CRASH_CYCLES ?? 10);
const CYCLE_MS = 20_000;
/** Acknowledgements heard before the kill: from the very first to well under way. */
const MAX_HEARD = 400;

test(`what is acknowledged survives SIGKILL, whole and in order, ${CYCLES} times`, {
	timeout: CYCLES * CYCLE_MS,
}, async () => {
	using folder = temporaryFolder();
	const directory = join(folder.path, "state");
	let from = 1;
	for (let cycle = 0; cycle < CYCLES; cycle++) {
		const ledger = await writeAndKill(directory, cycle);
		await using state = await openEmbeddedState({ directory, clock: new FakeClock(), ids: new SequentialIds() });
		from = await checkLog(state, ledger, cycle, from);
		checkKv(state, ledger, cycle);
	}
});

/** Resolves once the writer is dead, which happens after a number of acknowledgements that differs from cycle to cycle. */
async function writeAndKill(directory: string, cycle: number): Promise<CrashLedger> {
	const ledger = new CrashLedger();
	const writer = spawn(process.execPath, [join(import.meta.dirname, "crash-writer.ts"), directory, String(cycle)], {
		stdio: ["ignore", "pipe", "pipe"],
	});
	let complaint = "";
	writer.stderr.setEncoding("utf8").on("data", (chunk: string) => {
		complaint += chunk;
	});
	const enough = Math.floor(Math.random() * MAX_HEARD);
	writer.stdout.setEncoding("utf8").on("data", (chunk: string) => {
		ledger.hear(chunk);
		if (ledger.appends.size + ledger.commits.size >= enough) writer.kill("SIGKILL");
	});
	const [code, signal] = await once(writer, "close");
	expect({ code, signal, complaint }).toEqual({ code: null, signal: "SIGKILL", complaint: "" });
	return ledger;
}

async function checkLog(state: StateBackend, ledger: CrashLedger, cycle: number, from: number): Promise<number> {
	const log = await state.log("events");
	const stored: StoredRecord[] = [];
	for (let next = from; next < log.bounds().next; ) {
		const page = await log.read({ from: { sequence: next }, maxRecords: 1000, maxBytes: 1 << 20 });
		stored.push(...page.records);
		next = page.next;
	}
	expect(stored.map((record) => record.sequence)).toEqual(stored.map((_, index) => from + index));
	const found = new Map<number, number>();
	for (let at = 0; at < stored.length; ) {
		const batch = Number(stored[at]!.id.split("-")[1]);
		const sent = batchOf(cycle, batch);
		const got = stored.slice(at, at + sent.length);
		expect(got.map(describeRecord)).toEqual(sent.map(describeRecord));
		expect(found.has(batch)).toBe(false);
		found.set(batch, from + at);
		at += sent.length;
	}
	for (const [batch, sequence] of ledger.appends) expect(found.get(batch)).toBe(sequence);
	return from + stored.length;
}

function checkKv(state: StateBackend, ledger: CrashLedger, cycle: number): void {
	const numbers = keysUnder(state, `a/${cycle}/`).map(Number);
	expect(keysUnder(state, `plugin/${cycle}/`).map(Number)).toEqual(numbers);
	for (const number of numbers) {
		for (const write of commitOf(cycle, number).writes) {
			const entry = state.kv.get(write.key)!;
			expect("value" in write && Buffer.compare(entry.value, write.value)).toBe(0);
		}
	}
	for (const [number, revision] of ledger.commits) {
		expect(state.kv.get(commitOf(cycle, number).writes[1]!.key)?.revision).toBe(revision);
	}
	expect(state.kv.revision).toBeGreaterThanOrEqual(Math.max(0, ...ledger.commits.values()));
}

function keysUnder(state: StateBackend, prefix: string): string[] {
	const keys: string[] = [];
	for (let start = prefix; ; ) {
		const page = state.kv.range({ start, end: prefixEnd(prefix), limit: 1000 });
		keys.push(...page.entries.map((entry) => entry.key.slice(prefix.length)));
		if (!page.more) return keys;
		start = `${page.entries.at(-1)!.key}\u0000`;
	}
}

function describeRecord(record: { id: string; topic: string; bytes: Uint8Array }): string {
	return `${record.id} ${record.topic} ${Buffer.from(record.bytes)}`;
}
