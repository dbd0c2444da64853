import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { TestHub } from "../harness/hub.ts";

describe("examples/hello.ts", () => {
	it("says what it promises, and ends", async () => {
		await using hub = await TestHub.start({ options: { dev: true } });
		const env = { ...process.env, HUB_URL: hub.url };
		const { stdout, stderr } = await promisify(execFile)(process.execPath, ["examples/hello.ts"], {
			env,
			timeout: 15_000,
		});
		expect(stderr).toBe("");
		expect(stdout.split("\n").toSorted()).toEqual([
			"",
			"greeter answers: hello Ada",
			"planner says task.created: Water the plants",
		]);
	});
});

describe("examples/stores.ts", () => {
	it("says what it promises, and ends", async () => {
		await using hub = await TestHub.start({ options: { dev: true } });
		const env = { ...process.env, HUB_URL: hub.url };
		const { stdout, stderr } = await promisify(execFile)(process.execPath, ["examples/stores.ts"], {
			env,
			timeout: 15_000,
		});
		expect(stderr).toBe("");
		const lines = stdout.split("\n");
		// The watch tells of the cactus when it comes to it.
		expect(lines.toSorted()).toEqual(
			[
				"plant/fern: nothing -> 1 by gardener",
				"plant/fern: 1 -> 3 by gardener",
				"the copy says 1 litre",
				"plant/cactus: nothing -> 0.1 by gardener",
				"refused: VALIDATION_FAILED",
				"refused: REVISION_MISMATCH",
				"refused: INSUFFICIENT_PERMISSIONS",
				"plant/cactus was written by gardener",
				"plant/fern was written by gardener",
				"",
			].toSorted(),
		);
	});
});
