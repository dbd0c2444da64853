import { chmod, mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { TestHub } from "../harness/hub.ts";

it("hides the state, which holds the signing key, in a folder that others may look into", async () => {
	const directory = await mkdtemp(join(tmpdir(), "hub-open-folder-"));
	const modes = () =>
		Promise.all(
			["state.mdb", "state.mdb-lock", "operator.token"].map(
				async (name) => (await stat(join(directory, name))).mode & 0o777,
			),
		);
	try {
		await chmod(directory, 0o755);
		for (const before of [undefined, 0o644]) {
			if (before !== undefined) await chmod(join(directory, "state.mdb"), before);
			await using _hub = await TestHub.start({ directory, options: { state: "embedded" } });
			expect(await modes()).toEqual([0o600, 0o600, 0o600]);
		}
	} finally {
		await rm(directory, { recursive: true });
	}
});
