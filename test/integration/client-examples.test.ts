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
