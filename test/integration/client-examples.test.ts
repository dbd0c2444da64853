import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { describeHubs, TestHub } from "../harness/hub.ts";

describe("examples/hello.ts", () => {
	it("says what it promises, and ends", async () => {
		await using hub = await TestHub.start({ options: { dev: true } });
		expect(await linesOf("hello.ts", { HUB_URL: hub.url })).toEqual([
			"",
			"greeter answers: hello Ada",
			"planner says task.created: Water the plants",
		]);
	});
});

describeHubs("examples/kitchen.ts", (start) => {
	it("says what it promises, and leaves nothing behind", async () => {
		await using hub = await start();
		const token = readFileSync(hub.running.operatorTokenFile, "utf8").trim();
		for (let run = 0; run < 2; run++) {
			expect(await linesOf("kitchen.ts", { HUB_URL: hub.url, HUB_OPERATOR_TOKEN: token })).toEqual([
				"",
				'the kitchen cooks {"dish":"soup"}, paid: yes',
				'the night kitchen cooks {"dish":"stew"}, paid: yes',
				"the salad is refused: an order needs a card",
				"the soup is queued",
				"the waiter takes the soup from kitchen (dish.ready)",
				"the waiter takes the stew from night-kitchen (dish.ready)",
			]);
		}
		expect((await hub.operator.plugins.list({})).plugins).toEqual([]);
		expect((await hub.operator.messaging.listRoutes({})).routes).toEqual([]);
	});
});

describe("examples/stores.ts", () => {
	it("says what it promises, and ends", async () => {
		await using hub = await TestHub.start({ options: { dev: true } });
		// The watch tells of the cactus when it comes to it.
		expect(await linesOf("stores.ts", { HUB_URL: hub.url })).toEqual(
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

/** What an example prints, sorted: what happens at once may be said in any order. */
async function linesOf(example: string, env: Readonly<Record<string, string>>): Promise<readonly string[]> {
	const { stdout, stderr } = await promisify(execFile)(process.execPath, [`examples/${example}`], {
		env: { ...process.env, ...env },
		timeout: 15_000,
	});
	expect(stderr).toBe("");
	return stdout.split("\n").toSorted();
}
