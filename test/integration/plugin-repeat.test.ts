import { afterEach, expect, test } from "vitest";
import { OPERATOR, PluginWorld, plugin, type WorldOptions } from "../harness/plugin-world.ts";

let opened: PluginWorld[] = [];

async function world(options?: WorldOptions): Promise<PluginWorld> {
	const made = await PluginWorld.open(options);
	opened.push(made);
	return made;
}

afterEach(async () => {
	const all = opened;
	opened = [];
	for (const one of all) await one[Symbol.asyncDispose]();
	for (const one of all) expect(one.clock.pendingTimers).toBe(0);
});

const weather = plugin("weather");

test("a repeated Register gives the first answer and starts no second instance", async () => {
	const hub = await world();
	const all = await Promise.all(Array.from({ length: 10 }, () => hub.register(weather, { requestId: "r" })));
	expect(all.filter((one) => !one.duplicate)).toHaveLength(1);
	const first = all.find((one) => !one.duplicate)!;
	for (const one of all) expect({ ...one, duplicate: false }).toEqual(first);
	expect(first.plugin).toEqual((await hub.get(weather, "weather")).plugin);
	await hub.update(weather, { capabilities: { provides: ["a"] } });
	await hub.clock.advance(20_000);
	expect(await hub.register(weather, { requestId: "r" })).toEqual({ ...first, duplicate: true });
	await hub.clock.advance(20_000);
	expect(hub.registry.isLive("weather", first.instanceId)).toBe(true);
	await expect(hub.register(weather, { requestId: "r", withoutInstance: true })).rejects.toMatchObject({
		reason: "ID_REUSED",
	});
	expect(hub.toldInShort()).toEqual(["weather registered", "weather online", "weather updated"]);
});

test("a repeat that stored nothing new shows the revision of then", async () => {
	const hub = await world();
	const { plugin: made } = await hub.register(weather, { withoutInstance: true });
	const same = await hub.register(weather, { withoutInstance: true, requestId: "r" });
	expect(same.plugin?.revision).toBe(made?.revision);
	await hub.update(weather, { capabilities: { provides: ["a"] } });
	const again = await hub.register(weather, { withoutInstance: true, requestId: "r" });
	expect(again).toMatchObject({ duplicate: true, plugin: { revision: made?.revision } });
});

test("every mutation may be repeated, also after a restart, and is audited and told once", async () => {
	const before = await world();
	await before.register(weather);
	const disable = { pluginId: "weather", reason: "noisy", requestId: "d" };
	const update = { capabilities: { provides: ["a"] }, requestId: "u" };
	const first = {
		update: await before.update(weather, update),
		disable: await before.disable(OPERATOR, disable),
		enable: await before.enable(OPERATOR, { pluginId: "weather", requestId: "e" }),
		unregister: await before.unregister(OPERATOR, { pluginId: "weather", requestId: "x" }),
	};
	await before.stop();
	const hub = await world({ clock: before.clock, ids: before.ids, state: before.state });
	const told = hub.told().length;
	expect(await hub.update(weather, update)).toEqual({ ...first.update, duplicate: true });
	expect(await hub.disable(OPERATOR, disable)).toEqual({ ...first.disable, duplicate: true });
	expect(await hub.enable(OPERATOR, { pluginId: "weather", requestId: "e" })).toEqual({
		...first.enable,
		duplicate: true,
	});
	expect(await hub.unregister(OPERATOR, { pluginId: "weather", requestId: "x" })).toEqual({
		...first.unregister,
		duplicate: true,
	});
	expect(hub.told()).toHaveLength(told);
	expect(hub.audited).toEqual([]);
	expect(hub.stored("outbox/audit/")).toHaveLength(3);
	await expect(hub.disable(OPERATOR, { ...disable, reason: "other" })).rejects.toMatchObject({ reason: "ID_REUSED" });
});

test("a request id has at most 128 characters, and only checking does not use it up", async () => {
	const hub = await world();
	await expect(hub.register(weather, { requestId: "x".repeat(129) })).rejects.toMatchObject({
		reason: "INVALID_FIELD",
		metadata: { field: "request_id" },
	});
	await hub.register(weather, { requestId: "é".repeat(128) });
	await hub.disable(OPERATOR, { pluginId: "weather", requestId: "d", validateOnly: true });
	expect((await hub.disable(OPERATOR, { pluginId: "weather", requestId: "d" })).duplicate).toBe(false);
});
