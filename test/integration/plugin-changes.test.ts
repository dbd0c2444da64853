import { describe, expect, test } from "vitest";
import { PluginState } from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import { keys } from "../../src/state/key-layout.ts";
import { openWorlds } from "../harness/open-worlds.ts";
import { manifest, OPERATOR, plugin } from "../harness/plugin-world.ts";
import { refused } from "../harness/refused.ts";

const world = openWorlds();

const weather = plugin("weather");
const mail = plugin("mail");

describe("update", () => {
	test("changes what is set, or what the mask names", async () => {
		const hub = await world();
		const capabilities = { provides: ["a", "b"], reliability: 0.5, costs: { a: 1 } };
		const { plugin: made } = await hub.register(weather, { capabilities });
		const masked = await hub.update(weather, {
			capabilities: { provides: ["c"], costs: { c: 3 } },
			updateMask: { paths: ["capabilities.provides", "capabilities.reliability"] },
		});
		expect(masked.plugin?.capabilities).toMatchObject({ provides: ["c"], costs: { a: 1 } });
		expect(masked.plugin?.capabilities?.reliability).toBeUndefined();
		expect(masked.plugin!.revision).toBeGreaterThan(made!.revision);
		const renamed = await hub.update(OPERATOR, {
			pluginId: "weather",
			manifestJson: manifest("weather", { name: "Climate", category: "sky" }),
		});
		expect(renamed.plugin).toMatchObject({ name: "Climate", categories: ["sky"], capabilities: { provides: ["c"] } });
		const whole = await hub.update(weather, { capabilities: { categories: ["x"] } });
		expect(whole.plugin).toMatchObject({ categories: ["x", "sky"], capabilities: { provides: [], costs: {} } });
		const same = await hub.update(weather, { capabilities: { categories: ["x"] } });
		expect(same.plugin?.revision).toBe(whole.plugin?.revision);
		expect(hub.toldInShort().filter((one) => one === "weather updated")).toHaveLength(3);
	});

	test("refuses bad masks, other plugins, what is not there and a lost race", async () => {
		const hub = await world();
		await expect(hub.update(weather, { capabilities: {} })).rejects.toEqual(refused("PLUGIN_NOT_FOUND"));
		const { plugin: made } = await hub.register(weather);
		await expect(hub.update(weather, {})).rejects.toEqual(refused("INVALID_FIELD", { field: "update_mask" }));
		for (const path of ["capabilities.nothing", "xxxxxxxxxxxxxprovides", "name", "capabilities.__proto__"]) {
			await expect(hub.update(weather, { updateMask: { paths: [path] } })).rejects.toEqual(
				refused("INVALID_FIELD", { field: "update_mask" }),
			);
		}
		await expect(hub.update(mail, { pluginId: "weather", capabilities: {} })).rejects.toEqual(
			refused("CALLER_NOT_ALLOWED"),
		);
		await expect(hub.update(weather, { manifestJson: manifest("mail") })).rejects.toEqual(refused("SPOOFED_SOURCE"));
		expect(hub.denials).toMatchObject([
			{ event: "call_denied", actor: "plugin:mail", target: "plugin:weather", reason: "caller_not_allowed" },
			{ event: "call_denied", actor: "plugin:weather", target: "plugin:mail", reason: "spoofed_source" },
		]);
		const changes = ["x", "y", "z"].map((name) =>
			hub.update(weather, {
				capabilities: { provides: [name] },
				expected: { state: { case: "revision", value: made!.revision } },
			}),
		);
		const settled = await Promise.allSettled(changes);
		expect(settled.map((one) => one.status).sort()).toEqual(["fulfilled", "rejected", "rejected"]);
	});
});

describe("disable and enable", () => {
	test("shut a plugin out and let it in, with the mark of the policy and an audit record", async () => {
		const hub = await world();
		const { instanceId } = await hub.register(weather);
		await expect(hub.disable(weather, { pluginId: "weather" })).rejects.toEqual(refused("CALLER_NOT_ALLOWED"));
		await expect(hub.disable(OPERATOR, { pluginId: "nobody" })).rejects.toEqual(refused("PLUGIN_NOT_FOUND"));
		const trial = await hub.disable(OPERATOR, { pluginId: "weather", reason: "noisy", validateOnly: true });
		expect(trial.plugin).toMatchObject({ state: PluginState.DISABLED, disabledReason: "noisy" });
		expect(hub.registry.lookup("weather")).toBe("present");
		expect(hub.audited).toEqual([]);

		const disabled = await hub.disable(OPERATOR, { pluginId: "weather", reason: "noisy" });
		expect(disabled.plugin).toMatchObject({ state: PluginState.DISABLED, disabledReason: "noisy" });
		expect(hub.state.kv.get(keys.disabled("weather"))).toBeDefined();
		expect(hub.registry.lookup("weather")).toBe("disabled");
		expect(hub.audited).toMatchObject([
			{ event: "plugin_disabled", actor: "operator:root", target: "plugin:weather", reason: "noisy" },
		]);
		await expect(hub.register(weather)).rejects.toEqual(refused("PLUGIN_DISABLED"));
		await expect(hub.update(weather, { capabilities: { provides: ["x"] } })).rejects.toEqual(
			refused("PLUGIN_DISABLED"),
		);
		await expect(hub.unregister(weather)).rejects.toEqual(refused("PLUGIN_DISABLED"));
		await expect(hub.heartbeat(weather, instanceId)).rejects.toEqual(refused("PLUGIN_DISABLED"));
		await hub.disable(OPERATOR, { pluginId: "weather", reason: "again" });
		expect(hub.audited).toHaveLength(1);

		const enabled = await hub.enable(OPERATOR, { pluginId: "weather" });
		expect(enabled.plugin).toMatchObject({ state: PluginState.ONLINE, disabledReason: "" });
		expect(hub.state.kv.get(keys.disabled("weather"))).toBeUndefined();
		await hub.heartbeat(weather, instanceId);
		expect(hub.toldInShort().slice(2)).toEqual(["weather disabled", "weather enabled"]);
		expect(hub.told()[2]?.data).toMatchObject({ state: "DISABLED", reason: "noisy" });
		expect(hub.stored("outbox/audit/")).toHaveLength(2);
	});
});

describe("unregister", () => {
	test("takes the instances and the grants away in one commit; what comes back inherits nothing", async () => {
		const hub = await world();
		const ended: string[] = [];
		hub.registry.onInstanceEnd((id, instance) => ended.push(`${id} ${instance}`));
		const { instanceId } = await hub.register(weather);
		const grants = [keys.permissions("weather"), keys.trust("weather"), keys.disabled("weather")];
		await hub.state.kv.commit({ id: "grants", writes: grants.map((key) => ({ key, value: Buffer.from("x") })) });
		await expect(hub.unregister(mail, { pluginId: "weather" })).rejects.toEqual(refused("CALLER_NOT_ALLOWED"));
		await hub.unregister(OPERATOR, { pluginId: "weather" });
		for (const key of grants) expect(hub.state.kv.get(key)).toBeUndefined();
		expect(hub.stored("plugin/").map((entry) => entry.key)).toEqual(["plugin/epoch"]);
		expect(ended).toEqual([`weather ${instanceId}`]);
		expect(hub.registry.isLive("weather", instanceId)).toBe(false);
		expect(hub.toldInShort().at(-1)).toBe("weather unregistered");
		expect(hub.audited).toMatchObject([{ event: "plugin_unregistered", target: "plugin:weather" }]);
		await expect(hub.get(OPERATOR, "weather")).rejects.toEqual(refused("PLUGIN_NOT_FOUND"));
		await expect(hub.unregister(weather)).rejects.toEqual(refused("PLUGIN_NOT_FOUND"));
		const again = await hub.register(weather, { withoutInstance: true });
		expect(again.plugin).toMatchObject({ state: PluginState.REGISTERED, instances: [] });
	});
});
