/**
 * Writes without end to the state in the folder given, several writes in flight, and tells each acknowledgement in a line
 * on standard output before it goes on. Run by the crash test, which kills it. Usage: node crash-writer.ts folder cycle
 */
import { writeSync } from "node:fs";
import { randomIds, systemClock } from "../../src/clock/system-clock.ts";
import { openEmbeddedState } from "../../src/state/embedded/open-embedded-state.ts";
import { StorageError } from "../../src/state/kv-store.ts";
import { batchOf, commitOf } from "./crash-ledger.ts";

const [, , directory, cycle] = process.argv;
if (directory === undefined || cycle === undefined) throw new Error("usage: crash-writer.ts folder cycle");

const IN_FLIGHT = 6;
const state = await openEmbeddedState({ directory, clock: systemClock, ids: randomIds });
const log = await state.log("events");
let batches = 0;
let commits = 0;

async function append(): Promise<never> {
	while (true) {
		const batch = batches++;
		try {
			const appended = await log.append(batchOf(Number(cycle), batch));
			writeSync(1, `append ${batch} ${appended[0]!.sequence}\n`);
		} catch (error) {
			refused(error, `refused-append ${batch}\n`);
		}
	}
}

async function commit(): Promise<never> {
	while (true) {
		const number = commits++;
		try {
			const result = await state.kv.commit(commitOf(Number(cycle), number));
			if (!result.ok) throw new Error("a commit without checks has a conflict");
			writeSync(1, `commit ${number} ${result.revision}\n`);
		} catch (error) {
			refused(error, `refused-commit ${number}\n`);
		}
	}
}

/** Of an unknown outcome there is nothing to tell. */
function refused(error: unknown, line: string): void {
	if (!(error instanceof StorageError)) throw error;
	if (error.outcome === "not-written") writeSync(1, line);
}

/** How it exits where it can no longer tell what is stored. */
const ENDED = 7;
state.failed.then(() => process.exit(ENDED));
/** Keeps the process alive while nothing but the database has work, as a hub's sockets do. */
setInterval(() => {}, 60_000);

writeSync(1, "ready\n");
await Promise.all(Array.from({ length: IN_FLIGHT }, (_, index) => (index % 2 === 0 ? append() : commit())));
