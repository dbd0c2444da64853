import { copyFileSync, existsSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Consumer } from "../harness/consumer.ts";
import { until } from "../harness/hub.ts";
import { HubProcess, runHub, TestFolder } from "../harness/hub-process.ts";

let folder: TestFolder;
beforeEach(() => {
	folder = new TestFolder();
});
afterEach(() => folder[Symbol.dispose]());

const inFolder = (name: string) => join(folder.path, name);
const tokenFile = () => join(inFolder("data"), "operator.token");
const backUp = (hub: HubProcess, name = "backup") =>
	runHub(["--backup", inFolder(name), "--hub", hub.url, "--token-file", tokenFile()]);

describe("the command line", () => {
	it("takes a backup of a working hub, verifies it and restores it", { timeout: 60_000 }, async () => {
		const sent: string[] = [];
		let token = "";
		{
			await using hub = await HubProcess.start("embedded", inFolder("data"));
			const plugin = await hub.enrol("writer");
			token = plugin.token;
			await plugin.events.createDurableSubscription({ subscription: { name: "mine", patterns: ["n.*"] } });
			const send = async (at: number) => {
				await plugin.events.emit({ event: { id: `e${at}`, type: "n.x" } });
				sent.push(`e${at}`);
			};
			for (let at = 0; at < 20; at++) await send(at);
			const consumer = new Consumer(plugin, "mine", 5);
			await until(() => consumer.deliveries.length === 5);
			consumer.settle(consumer.deliveries);
			await until(() => consumer.settled.length === 5);
			await consumer.leave();
			const atLeast = sent.length;
			let going = true;
			const writing = (async () => {
				for (let at = 20; going; at++) await send(at);
			})();
			const taken = await backUp(hub);
			going = false;
			await writing;
			expect(taken).toMatchObject({ code: 0, stderr: "" });
			expect(taken.stdout).toMatch(/backup: \d+ bytes, sha256 [0-9a-f]{64}; keep it as secret/);
			expect(statSync(inFolder("backup")).mode & 0o777).toBe(0o600);
			expect(sent.length).toBeGreaterThan(atLeast);
			const again = await backUp(hub);
			expect(again.code).toBe(1);
			expect(again.stderr).toContain("plugin-hub: backup: EEXIST");
		}

		const verified = await runHub(["--verify-backup", inFolder("backup")]);
		expect(verified).toMatchObject({ code: 0, stderr: "" });
		expect(verified.stdout).toMatch(
			/is whole\n {2}hub version: .*\n {2}taken: 20.*\n {2}state bytes: \d+\n {2}keys: \d+\n/,
		);
		const count = Number(/log events: (\d+) records/.exec(verified.stdout)?.[1]);
		expect(count).toBeGreaterThanOrEqual(20);

		const restored = await runHub(["--restore", inFolder("backup"), "--data", inFolder("restored")]);
		expect(restored).toMatchObject({ code: 0, stderr: "" });
		expect(restored.stdout).toContain("restored to ");
		const refused = await runHub(["--restore", inFolder("backup"), "--data", inFolder("restored")]);
		expect(refused.code).toBe(1);
		expect(refused.stderr).toContain("is not empty: it has state.mdb");

		await using hub = await HubProcess.start("embedded", inFolder("restored"));
		const plugin = hub.connect(token);
		const { events } = await plugin.events.listEvents({ patterns: ["n.*"], pageSize: 1000 });
		const kept = events.map(({ id }) => id);
		expect(kept).toEqual(sent.slice(0, kept.length));
		expect(kept.length).toBeGreaterThanOrEqual(20);
		// A durable subscription goes on where it was, in the log's new numbering.
		const consumer = new Consumer(plugin, "mine", 1);
		await until(() => consumer.deliveries.length === 1);
		expect(consumer.deliveries[0]?.event?.id).toBe("e5");
		await consumer.leave();
	});

	it("refuses what is damaged, cut short or no backup, with code 1", { timeout: 60_000 }, async () => {
		{
			await using hub = await HubProcess.start("embedded", inFolder("data"));
			expect((await backUp(hub)).code).toBe(0);
		}
		const size = statSync(inFolder("backup")).size;
		copyFileSync(inFolder("backup"), inFolder("cut"));
		truncateSync(inFolder("cut"), size - 100);
		const changed = readFileSync(inFolder("backup"));
		changed[size >> 1]! ^= 1;
		writeFileSync(inFolder("changed"), changed);
		for (const [file, problem] of [
			["cut", "the end of the backup is missing"],
			["changed", "the backup is damaged"],
			["missing", "cannot be read"],
			["data/operator.token", "is no backup"],
		] as const) {
			const verified = await runHub(["--verify-backup", inFolder(file)]);
			expect(verified).toMatchObject({ code: 1, stdout: "" });
			expect(verified.stderr).toMatch(new RegExp(`^plugin-hub: verify-backup: .*${problem}.*\n$`));
			const restored = await runHub(["--restore", inFolder(file), "--data", inFolder("other")]);
			expect(restored).toMatchObject({ code: 1, stdout: "" });
			expect(restored.stderr).toContain(problem);
			expect(readdirSync(inFolder("other"))).toEqual(["hub.lock"]);
		}
	});

	it("takes no backup of a hub that has nothing to keep, and leaves no file", async () => {
		await using hub = await HubProcess.start("memory", inFolder("data"));
		const taken = await backUp(hub);
		expect(taken).toMatchObject({ code: 1, stdout: "" });
		expect(taken.stderr).toContain("this hub keeps nothing that outlives its process");
		expect(existsSync(inFolder("backup"))).toBe(false);
	});

	it.each([
		[["--backup", "a", "--restore", "b"], "--restore: does not go with --backup"],
		[["--hub", "http://127.0.0.1:1"], "--hub: goes with --backup"],
		[["--verify-backup", ""], "--verify-backup: needs a file"],
		[["--backup", "a", "--hub", "nowhere"], "--hub: needs a URL"],
		[["--restore"], "--restore: needs a value"],
	])("with flags that do not go together ends with code 2: %j", async (flags, problem) => {
		const refused = await runHub(flags);
		expect(refused).toMatchObject({ code: 2, stdout: "" });
		expect(refused.stderr).toContain(`plugin-hub: ${problem}`);
	});
});
