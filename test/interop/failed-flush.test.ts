import { spawn } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openEmbeddedState } from "../../src/state/embedded/open-embedded-state.ts";
import { checkKv, checkLog } from "../contract/crash-check.ts";
import { CrashLedger } from "../contract/crash-ledger.ts";
import { FakeClock, SequentialIds } from "../harness/fake-clock.ts";
import { temporaryFolder } from "../harness/state-backends.ts";

/** Needs `strace`, which makes system calls of the writer fail, and fails saying so where that is missing. */
const ROUNDS = Number(process.env.FLUSH_ROUNDS ?? 5);
const ROUND_MS = 30_000;
const ENOUGH = 300;
/** One write in four is of that page, and which one a fault meets cannot be chosen. */
const META_ROUNDS = 30;
/** How the writer exits where it can no longer tell what is stored. */
const ENDED = 7;

async function writeUnderFaults(directory: string, round: number, fault: string) {
	const ledger = new CrashLedger();
	const file = join(directory, "state.mdb");
	const traced = [
		// With the tracer as the grandchild, the process spawned is the writer itself.
		"-D",
		"-f",
		"-qq",
		"-o",
		"/dev/null",
		"-P",
		file,
		"-e",
		"trace=fdatasync,pwrite64",
		"-e",
		`inject=${fault}`,
	];
	const writer = [process.execPath, join(import.meta.dirname, "../contract/crash-writer.ts"), directory, String(round)];
	const { code, signal } = await ledger.follow(spawn("strace", [...traced, ...writer]), ENOUGH);
	return { ledger, code, signal };
}

test(`LOG-1 KV-2 a flush that fails is refused, and what was refused is not kept, ${ROUNDS} times`, {
	timeout: ROUNDS * ROUND_MS,
}, async () => {
	using folder = temporaryFolder();
	const directory = join(folder.path, "state");
	let from = 1;
	let refused = 0;
	for (let round = 0; round < ROUNDS; round++) {
		const { ledger } = await writeUnderFaults(directory, round, `fdatasync:error=EIO:when=${12 + round}+3`);
		refused += ledger.refusedAppends.size + ledger.refusedCommits.size;
		await using state = await openEmbeddedState({ directory, clock: new FakeClock(), ids: new SequentialIds() });
		from = await checkLog(state, ledger, round, from);
		checkKv(state, ledger, round);
	}
	expect(refused).toBeGreaterThan(0);
});

test("a fault on the page that makes a commit current ends the hub", { timeout: META_ROUNDS * ROUND_MS }, async () => {
	using folder = temporaryFolder();
	const directory = join(folder.path, "state");
	let from = 1;
	let ended = false;
	for (let round = 0; !ended; round++) {
		expect(round, "rounds without a fault on that page").toBeLessThan(META_ROUNDS);
		const { ledger, code } = await writeUnderFaults(directory, round, `pwrite64:error=EIO:when=${16 + round}`);
		ended = code === ENDED;
		await using state = await openEmbeddedState({ directory, clock: new FakeClock(), ids: new SequentialIds() });
		from = await checkLog(state, ledger, round, from);
		checkKv(state, ledger, round);
	}
});
