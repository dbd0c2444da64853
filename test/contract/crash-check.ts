import { expect } from "vitest";
import type { StoredRecord } from "../../src/state/log-store.ts";
import { prefixEnd, type StateBackend } from "../../src/state/state-backend.ts";
import { batchOf, type CrashLedger, commitOf } from "./crash-ledger.ts";

/**
 * Compares the log from `from` on with what the writer of this cycle was told: nothing acknowledged is missing, nothing
 * refused is there, every batch is whole, and nothing else is stored. Returns where the next cycle begins.
 */
export async function checkLog(state: StateBackend, ledger: CrashLedger, cycle: number, from: number): Promise<number> {
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
	for (const batch of ledger.refusedAppends) expect(found.has(batch)).toBe(false);
	return from + stored.length;
}

/** The same for the keyspace. */
export function checkKv(state: StateBackend, ledger: CrashLedger, cycle: number): void {
	const numbers = keysUnder(state, `a/${cycle}/`).map(Number);
	expect(keysUnder(state, `plugin/${cycle}/`).map(Number)).toEqual(numbers);
	for (const number of numbers) {
		for (const write of commitOf(cycle, number).writes) {
			const entry = state.kv.get(write.key)!;
			expect(write.value instanceof Uint8Array && Buffer.compare(entry.value, write.value)).toBe(0);
		}
	}
	for (const number of ledger.refusedCommits) expect(numbers).not.toContain(number);
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
