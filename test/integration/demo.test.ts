import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ALL_GRANTS, manifestOf } from "../harness/hub.ts";
import { HubProcess, PROJECT, runNode, TestFolder } from "../harness/hub-process.ts";

/** Manifests that come with the platform; they lie beside the project where they are there at all. */
const PLATFORM_MANIFESTS = join(PROJECT, "..", "shared", "data", "manifests");

let folder: TestFolder;
beforeEach(() => {
	folder = new TestFolder();
});
afterEach(() => folder[Symbol.dispose]());

/** Runs the demo in a folder where no hub's data is. */
const demo = (...flags: string[]) => runNode([join(PROJECT, "examples", "demo.ts"), ...flags], { cwd: folder.path });

function expectShown(printed: string, [writer, reader]: readonly [string, string]): void {
	for (const text of ["first", "second", "third"]) {
		expect(printed).toMatch(new RegExp(`^${reader} +received .*"${text}" .*from ${writer} .*\\(history\\)$`, "m"));
	}
	for (const text of ["fourth", "fifth"]) {
		expect(printed).toMatch(new RegExp(`^${reader} +received .*"${text}" .*from ${writer} .*\\(live\\)$`, "m"));
	}
	expect(printed).toMatch(new RegExp(`^${writer} +asked +${reader} and got: "Hello neighbour, 5 events`, "m"));
	expect(printed).toContain("done: 3 events from history, 2 live, 1 request answered\n");
}

describe("the demo", () => {
	it("starts a hub of its own where none runs", async () => {
		const { code, stdout, stderr } = await demo();
		expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
		expect(stdout).toContain("no hub runs here, so one was started at http://127.0.0.1:");
		expectShown(stdout, ["example.calendar-sync", "habit-tracker"]);
	});

	it("uses the hub that runs, again and again, and leaves it as it was", async () => {
		const data = join(folder.path, "data");
		await using hub = await HubProcess.start("embedded", data);
		await hub.enrol("habit-tracker", { ...ALL_GRANTS, emit: [] });
		for (let run = 0; run < 2; run++) {
			const { code, stdout, stderr } = await demo("--data", data, "--url", hub.url);
			expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
			expect(stdout).toContain(`using the hub that runs at ${hub.url}`);
			expectShown(stdout, ["example.calendar-sync", "habit-tracker"]);
			const { plugins } = await hub.operator.plugins.list({});
			expect(plugins.map((plugin) => plugin.id)).toEqual(["habit-tracker"]);
			const { permissions } = await hub.operator.admin.getPermissions({ pluginId: "habit-tracker" });
			expect(permissions?.emit).toEqual([]);
		}
	});

	it.runIf(existsSync(PLATFORM_MANIFESTS))("takes other manifests", async () => {
		const { code, stdout, stderr } = await demo("--manifests", PLATFORM_MANIFESTS);
		expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
		const ids = [...stdout.matchAll(/^hub +registered (\S+), which asks/gm)].map((match) => match[1]!);
		expect(ids.length).toBeGreaterThanOrEqual(2);
		expectShown(stdout, [ids[0]!, ids[1]!]);
	});

	it("names --manifests where the folder is not there, holds too few, or one that cannot be read", async () => {
		const missing = await demo("--manifests", join(folder.path, "missing"));
		const none = await demo("--manifests", folder.path);
		writeFileSync(join(folder.path, "one.json"), manifestOf("one"));
		const one = await demo("--manifests", folder.path);
		writeFileSync(join(folder.path, "two.json"), "{");
		const broken = await demo("--manifests", folder.path);
		for (const { code, stdout, stderr } of [missing, none, one, broken]) {
			expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
			expect(stderr).toMatch(/^demo: --manifests: [^\n]+\n$/);
		}
		expect(missing.stderr).toContain("missing");
		expect(none.stderr).toContain("holds no manifests");
		expect(one.stderr).toContain("holds one manifest");
		expect(broken.stderr).toContain("two.json");
	});
});
