import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { fromBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { UsageRecordSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import { openEmbeddedState } from "../../src/state/embedded/open-embedded-state.ts";
import type { StateBackend } from "../../src/state/state-backend.ts";
import { decodeEntry } from "../../src/stores/entry-record.ts";
import { jsonBody } from "../../src/stores/payload-wire.ts";
import type { StoredEntry } from "../../src/stores/stored-entry.ts";
import { FakeClock, SequentialIds } from "../harness/fake-clock.ts";
import { temporaryFolder } from "../harness/state-backends.ts";

const CYCLES = Number(process.env.STATE_CRASH_CYCLES ?? 10);
const CYCLE_MS = 20_000;
const MAX_HEARD = 300;

test(`acknowledged writes to a store survive SIGKILL, whole, ${CYCLES} times`, {
	timeout: CYCLES * CYCLE_MS,
}, async () => {
	using folder = temporaryFolder();
	const directory = join(folder.path, "state");
	/** By slot: the revision and the count that were told last, in all cycles. */
	const told = new Map<string, { revision: number; count: number }>();
	for (let cycle = 0; cycle < CYCLES; cycle++) {
		const enough = Math.floor(Math.random() * MAX_HEARD);
		const writer = spawn(process.execPath, [join(import.meta.dirname, "store-crash-writer.ts"), directory, `${cycle}`]);
		let rest = "";
		let heard = 0;
		let complaint = "";
		writer.stderr.setEncoding("utf8").on("data", (chunk: string) => {
			complaint += chunk;
		});
		writer.stdout.setEncoding("utf8").on("data", (chunk: string) => {
			// A line that is cut short by the kill was never told whole.
			const lines = (rest + chunk).split("\n");
			rest = lines.pop()!;
			for (const line of lines) {
				const [, slot, revision, count] = line.split(" ");
				told.set(slot!, { revision: Number(revision), count: Number(count) });
				heard++;
			}
			if (heard >= enough) writer.kill("SIGKILL");
		});
		const [code, signal] = await once(writer, "close");
		expect({ code, signal, complaint }).toEqual({ code: null, signal: "SIGKILL", complaint: "" });
		await using state = await openEmbeddedState({ directory, clock: new FakeClock(), ids: new SequentialIds() });
		compare(state, told);
	}
});

function compare(state: StateBackend, told: Map<string, { revision: number; count: number }>): void {
	const { entries } = state.kv.range({ start: "store/entry/", end: "store/entry0", limit: 1000 });
	const found = new Map(entries.map((entry) => [entry.key.split("/").slice(3).join("/"), decodeEntry(entry)]));
	for (const [slot, { revision, count }] of told) {
		const left = found.get(`left/${slot}`)!;
		expect(left.revision).toBeGreaterThanOrEqual(revision);
		expect(Number(textOf(found.get(`count/${slot}`)!))).toBeGreaterThanOrEqual(count);
	}
	let bytes = 0;
	for (const [key, entry] of found) {
		bytes += entry.bytes;
		const right = key.startsWith("left/") ? found.get(key.replace("left/", "right/")) : undefined;
		// Half a transaction would show here.
		if (key.startsWith("left/")) expect(right && textOf(right)).toBe(textOf(entry));
	}
	const [usage] = state.kv.range({ start: "store/usage/", end: "store/usage0", limit: 1 }).entries;
	const counted = usage && fromBinary(UsageRecordSchema, usage.value);
	expect([Number(counted?.keys ?? 0n), Number(counted?.bytes ?? 0n)]).toEqual([found.size, bytes]);
}

function textOf(entry: StoredEntry): string {
	return jsonBody(entry.value)!;
}
