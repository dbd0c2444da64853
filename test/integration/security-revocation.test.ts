import { ConnectError } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { type Clients, describeHubs, manifestOf, reasonOf, type TestHub, until } from "../harness/hub.ts";

/** Frames of a subscription until it ends, and the reason that it ended with. */
function follow(plugin: Clients) {
	const seen = { frames: [] as string[], reason: undefined as string | undefined };
	const run = async () => {
		try {
			for await (const { frame } of plugin.events.subscribe({ patterns: ["a.*"] })) seen.frames.push(frame.case ?? "");
		} catch (error) {
			seen.reason = reasonOf(ConnectError.from(error));
		}
	};
	return { seen, ended: run() };
}

describeHubs("an open subscription", (start) => {
	const changes: [string, string, (hub: TestHub) => Promise<unknown>][] = [
		[
			"its permissions are replaced",
			"PERMISSION_REVOKED",
			(hub) => hub.operator.admin.setPermissions({ pluginId: "mine", permissions: { subscribe: ["a.b"] } }),
		],
		[
			"its credentials are revoked",
			"CREDENTIAL_REVOKED",
			(hub) => hub.operator.admin.revokeCredential({ target: { case: "pluginId", value: "mine" } }),
		],
		["its plugin is disabled", "PLUGIN_DISABLED", (hub) => hub.operator.plugins.disable({ pluginId: "mine" })],
		[
			"its plugin is unregistered",
			"PERMISSION_REVOKED",
			(hub) => hub.operator.plugins.unregister({ pluginId: "mine" }),
		],
	];
	test.each(changes)("ends within a second when %s: %s", async (_, reason, change) => {
		await using hub = await start();
		const [mine, other] = [follow(await hub.enrol("mine")), follow(await hub.enrol("other"))];
		await until(() => mine.seen.frames.length > 0 && other.seen.frames.length > 0);
		const before = performance.now();
		await change(hub);
		await mine.ended;
		expect(performance.now() - before).toBeLessThan(1000);
		expect(mine.seen).toMatchObject({ reason });
		expect(mine.seen.frames.at(-1)).toBe("revoked");
		expect(other.seen.reason).toBeUndefined();
		await hub.operator.admin.revokeCredential({ target: { case: "pluginId", value: "other" } });
		await other.ended;
	});
});

describe("with --dev", () => {
	describeHubs("a plugin without a credential", (start) => {
		test("gets one for a new id and none for a taken one", async () => {
			await using hub = await start({ options: { dev: true } });
			const stranger = hub.connect();
			const { token } = await stranger.plugins.register({ manifestJson: manifestOf("fresh") });
			const plugin = hub.connect(token);
			await plugin.events.emit({ event: { type: "a.b" } });
			await hub.operator.admin.setPermissions({ pluginId: "granted", permissions: { emit: ["x"] } });
			for (const id of ["fresh", "granted"]) {
				const refused = stranger.plugins.register({ manifestJson: manifestOf(id) });
				await expect(refused).rejects.toSatisfy((error: ConnectError) => reasonOf(error) === "PLUGIN_EXISTS");
			}
			const kept = await hub.operator.admin.getPermissions({ pluginId: "granted" });
			expect(kept.permissions?.emit).toEqual(["x"]);
		});
	});
});
