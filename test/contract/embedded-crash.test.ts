import { spawn } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openEmbeddedState } from "../../src/state/embedded/open-embedded-state.ts";
import { FakeClock, SequentialIds } from "../harness/fake-clock.ts";
import { temporaryFolder } from "../harness/state-backends.ts";
import { checkKv, checkLog } from "./crash-check.ts";
import { CrashLedger } from "./crash-ledger.ts";

const CYCLES = Number(process.env.STATE_CRASH_CYCLES ?? 10);
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
		const ledger = new CrashLedger();
		const writer = spawn(process.execPath, [join(import.meta.dirname, "crash-writer.ts"), directory, String(cycle)]);
		const end = await ledger.follow(writer, Math.floor(Math.random() * MAX_HEARD));
		expect(end).toEqual({ code: null, signal: "SIGKILL", complaint: "" });
		await using state = await openEmbeddedState({ directory, clock: new FakeClock(), ids: new SequentialIds() });
		from = await checkLog(state, ledger, cycle, from);
		checkKv(state, ledger, cycle);
	}
});
