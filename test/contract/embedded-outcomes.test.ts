import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { COMMIT_ID_COUNT } from "../../src/state/commit-outcomes.ts";
import { openEnvironment } from "../../src/state/embedded/environment.ts";
import { StoredOutcomes } from "../../src/state/embedded/stored-outcomes.ts";

const GROUPS = 20;
const GROUP = COMMIT_ID_COUNT / GROUPS;

test("the newest 100,000 commit ids are stored, not fewer, once there are more (KV-4)", async () => {
	const directory = mkdtempSync(join(tmpdir(), "hub-outcomes-"));
	const environment = await openEnvironment(directory);
	onTestFinished(async () => {
		await environment.root.close();
		rmSync(directory, { recursive: true, force: true });
	});
	const stored = new StoredOutcomes(environment);
	const groups = GROUPS + 5;
	for (let at = 0; at < groups; at++) {
		const group = Array.from({ length: GROUP }, (_, index) => {
			const revision = at * GROUP + index + 1;
			return { id: `c${revision}`, firstRevision: revision, revision, time: 1000 };
		});
		await environment.root.transaction(() => stored.write(group));
		stored.flushed(group);
	}
	const again = new StoredOutcomes(environment);
	again.load();
	const oldest = (groups - GROUPS) * GROUP + 1;
	for (const outcomes of [stored, again]) {
		expect(outcomes.get(`c${oldest}`, 1000)?.revision).toBe(oldest);
		expect(outcomes.get(`c${oldest - 1}`, 1000)).toBeUndefined();
	}
	expect([...environment.outcomes.getRange({})].length).toBeLessThanOrEqual(GROUPS + 1);
});
