import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { run } from "../../src/run.ts";

it.each(["SIGTERM", "SIGINT"] as const)("%s while the hub starts stops it in order", async (signal) => {
	const directory = await mkdtemp(join(tmpdir(), "hub-stop-"));
	try {
		const ended = run(["--listen", "127.0.0.1:0", "--data", directory, "--log-level", "silent"], {});
		process.emit(signal);
		expect(await ended).toBe(0);
	} finally {
		await rm(directory, { recursive: true });
		for (const each of ["SIGTERM", "SIGINT"] as const) process.removeAllListeners(each);
	}
});
