import { afterEach, describe, expect, test } from "vitest";
import { PluginState } from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import { StorageError } from "../../src/state/kv-store.ts";
import { openMemoryState } from "../../src/state/memory/open-memory-state.ts";
import type { PeerBus } from "../../src/state/peer-bus.ts";
import { FakeClock, SequentialIds } from "../harness/fake-clock.ts";
import { wrapKv } from "../harness/kv-wrapper.ts";
import { OPERATOR, PluginWorld, plugin, type WorldOptions } from "../harness/plugin-world.ts";

let opened: PluginWorld[] = [];

async function world(options?: WorldOptions): Promise<PluginWorld> {
	const made = await PluginWorld.open(options);
	opened.push(made);
	return made;
}

afterEach(async () => {
	for (const one of opened) await one[Symbol.asyncDispose]();
	for (const one of opened) expect(one.clock.pendingTimers).toBe(0);
	opened = [];
});

const weather = plugin("weather");
const stateOf = async (hub: PluginWorld, id = "weather") => (await hub.get(OPERATOR, id)).plugin?.state;
const notFound = expect.objectContaining({ reason: "INSTANCE_NOT_FOUND" });

/** Two hub nodes on one store. `alive` is who each believes to be there. */
function twoNodes() {
	const clock = new FakeClock();
	const ids = new SequentialIds();
	const state = openMemoryState({ clock, ids });
	const alive = new Set(["a", "b"]);
	const busOf = (nodeId: string): PeerBus => ({
		...state.bus,
		nodeId,
		nodes: () => [...alive].map((id) => ({ id, startTime: 0, version: "" })),
	});
	const optionsOf = (nodeId: string): WorldOptions => ({ clock, ids, state, registry: { bus: busOf(nodeId) } });
	return { clock, alive, optionsOf, kv: state.kv };
}

describe("a lease", () => {
	test("ends without heartbeats: the plugin goes offline and stays registered", async () => {
		const hub = await world();
		const ended: string[] = [];
		const listener = hub.registry.onInstanceEnd((id, instance) => ended.push(`${id}/${instance}`));
		const { instanceId } = await hub.register(weather);
		await hub.clock.advance(20_000);
		expect((await hub.heartbeat(weather, instanceId)).lease).toMatchObject({ seconds: 30n });
		await hub.clock.advance(29_999);
		expect(hub.registry.isLive("weather", instanceId)).toBe(true);
		expect(await stateOf(hub)).toBe(PluginState.ONLINE);
		await hub.clock.advance(1);
		expect(hub.registry.isLive("weather", instanceId)).toBe(false);
		expect(await stateOf(hub)).toBe(PluginState.OFFLINE);
		expect(ended).toEqual([`weather/${instanceId}`]);
		expect(hub.toldInShort()).toEqual(["weather registered", "weather online", "weather offline"]);
		expect(hub.told()[2]?.data).toMatchObject({ state: "OFFLINE", instanceId });
		await expect(hub.heartbeat(weather, instanceId)).rejects.toEqual(notFound);
		expect(hub.clock.pendingTimers).toBe(1);

		const back = await hub.register(weather, { instanceId });
		expect(back.instanceId).not.toBe(instanceId);
		expect(hub.toldInShort().at(-1)).toBe("weather online");
		listener[Symbol.dispose]();
		await hub.clock.advance(30_000);
		expect(ended).toHaveLength(1);
	});

	test("of each instance is its own; only the last one's end makes the plugin offline", async () => {
		const hub = await world();
		const first = await hub.register(weather);
		await hub.clock.advance(10_000);
		const second = await hub.register(weather);
		await hub.clock.advance(20_000);
		expect((await hub.get(weather, "weather")).plugin?.instances.map((one) => one.id)).toEqual([second.instanceId]);
		expect(await stateOf(hub)).toBe(PluginState.ONLINE);
		await expect(hub.heartbeat(weather, first.instanceId)).rejects.toEqual(notFound);
		await hub.clock.advance(10_000);
		expect(await stateOf(hub)).toBe(PluginState.OFFLINE);
		expect(hub.toldInShort().filter((one) => one === "weather offline")).toHaveLength(1);
	});

	test("is the caller's own", async () => {
		const hub = await world();
		const { instanceId } = await hub.register(weather);
		await hub.register(plugin("mail"));
		await expect(hub.heartbeat(plugin("mail"), instanceId)).rejects.toEqual(notFound);
		await expect(hub.heartbeat(plugin("nobody"), instanceId)).rejects.toEqual(notFound);
		await expect(hub.heartbeat(OPERATOR, instanceId)).rejects.toMatchObject({ reason: "CALLER_NOT_ALLOWED" });
		const { instanceId: mine } = await hub.register(plugin("mail"), { instanceId });
		expect(mine).not.toBe(instanceId);
	});

	test("is renewed by registering with its instance, and follows no step of the wall clock", async () => {
		const hub = await world();
		const { instanceId } = await hub.register(weather);
		for (let round = 0; round < 4; round++) {
			await hub.clock.advance(25_000);
			hub.clock.stepWall(-3_600_000);
			await hub.register(weather, { instanceId });
		}
		expect(await stateOf(hub)).toBe(PluginState.ONLINE);
		expect((await hub.get(weather, "weather")).plugin?.instances).toHaveLength(1);
	});

	test("of hundreds needs one timer, and each ends when it is due", async () => {
		const hub = await world();
		const ends: number[] = [];
		hub.registry.onInstanceEnd(() => ends.push(hub.clock.monotonic()));
		for (let at = 0; at < 300; at++) {
			await hub.register(plugin(`p${at}`));
			if (at % 100 === 99) await hub.clock.advance(5000);
		}
		const timers = hub.clock.pendingTimers;
		expect(timers).toBe(2);
		await hub.clock.advance(60_000);
		expect(ends).toHaveLength(300);
		expect([...new Set(ends)]).toEqual([30_000, 35_000, 40_000]);
	});

	test("ends later where the store cannot take it now; the instance is not live meanwhile", async () => {
		const clock = new FakeClock();
		const ids = new SequentialIds();
		const state = openMemoryState({ clock, ids });
		let broken = false;
		const kv = wrapKv(state.kv, {
			async commit(commit) {
				if (broken) throw new StorageError("full", "not-written", "no space");
				return await state.kv.commit(commit);
			},
		});
		const hub = await world({ clock, ids, state, registry: { kv }, answers: { kv } });
		const { instanceId } = await hub.register(weather);
		broken = true;
		await hub.clock.advance(35_000);
		expect(hub.registry.isLive("weather", instanceId)).toBe(false);
		expect(await stateOf(hub)).toBe(PluginState.ONLINE);
		await expect(hub.register(plugin("mail"))).rejects.toMatchObject({ reason: "STORAGE_FULL" });
		broken = false;
		await hub.clock.advance(1000);
		expect(await stateOf(hub)).toBe(PluginState.OFFLINE);
	});
});

describe("after a restart", () => {
	test("what was stored is there, and every instance has one full lease to come back", async () => {
		const before = await world();
		const kept = await before.register(weather, { capabilities: { provides: ["a"] } });
		const lost = await before.register(plugin("mail"));
		await before.register(OPERATOR, {
			manifestJson: JSON.stringify({ id: "idle", name: "Idle" }),
			withoutInstance: true,
		});
		await before.disable(OPERATOR, { pluginId: "idle" });
		await before.clock.advance(25_000);
		await before.stop();
		expect(before.clock.pendingTimers).toBe(0);
		await before.clock.advance(100_000);

		const after = await world({ clock: before.clock, ids: before.ids, state: before.state });
		expect((await after.list(OPERATOR)).plugins.map((one) => [one.id, one.state])).toEqual([
			["idle", PluginState.DISABLED],
			["mail", PluginState.ONLINE],
			["weather", PluginState.ONLINE],
		]);
		expect((await after.get(weather, "weather")).plugin).toMatchObject({
			revision: kept.plugin!.revision,
			capabilities: { provides: ["a"] },
		});
		expect(after.registry.index.epoch).toBe(before.registry.index.epoch);
		await after.clock.advance(29_999);
		await after.heartbeat(weather, kept.instanceId);
		await after.clock.advance(1);
		await expect(after.heartbeat(plugin("mail"), lost.instanceId)).rejects.toEqual(notFound);
		expect(await stateOf(after, "mail")).toBe(PluginState.OFFLINE);
		expect(await stateOf(after)).toBe(PluginState.ONLINE);
		expect(after.toldInShort().at(-1)).toBe("mail offline");
	});
});

describe("with another node", () => {
	test("each sees the other's plugins; an instance ends once, when its keeper says so", async () => {
		const { clock, optionsOf } = twoNodes();
		const a = await world(optionsOf("a"));
		const b = await world(optionsOf("b"));
		const { instanceId } = await a.register(weather);
		await clock.advance(0);
		expect(b.registry.isLive("weather", instanceId)).toBe(true);
		for (let round = 0; round < 5; round++) {
			await clock.advance(20_000);
			await a.heartbeat(weather, instanceId);
		}
		expect(await stateOf(b)).toBe(PluginState.ONLINE);
		await clock.advance(30_000);
		expect(await stateOf(b)).toBe(PluginState.OFFLINE);
		expect(a.toldInShort().filter((one) => one === "weather offline")).toHaveLength(1);
	});

	test("the other takes over the leases of a node that is gone, and those that come to it", async () => {
		const { clock, alive, optionsOf } = twoNodes();
		const a = await world(optionsOf("a"));
		const b = await world(optionsOf("b"));
		const moved = await a.register(weather);
		await a.register(plugin("mail"));
		await clock.advance(0);
		await b.heartbeat(weather, moved.instanceId);
		await a.stop();
		alive.delete("a");
		await clock.advance(29_000);
		await b.heartbeat(weather, moved.instanceId);
		await clock.advance(1000);
		expect(await stateOf(b, "mail")).toBe(PluginState.OFFLINE);
		expect(await stateOf(b)).toBe(PluginState.ONLINE);
		await clock.advance(30_000);
		expect(await stateOf(b)).toBe(PluginState.OFFLINE);
	});

	test("an end that was decided before the next start and stored after it is decided again", async () => {
		const { clock, optionsOf, kv } = twoNodes();
		const held = Promise.withResolvers<void>();
		let isHeld = false;
		const slow = wrapKv(kv, {
			async commit(commit) {
				if (isHeld) await held.promise;
				return await kv.commit(commit);
			},
		});
		const a = await world({ ...optionsOf("a"), answers: { kv: slow } });
		const b = await world(optionsOf("b"));
		await a.register(weather);
		isHeld = true;
		await clock.advance(30_000);
		const { instanceId } = await b.register(weather);
		held.resolve();
		await clock.advance(0);
		const { plugin: shown } = await b.get(OPERATOR, "weather");
		expect(shown).toMatchObject({ state: PluginState.ONLINE, instances: [{ id: instanceId }] });
		expect(a.toldInShort()).toEqual(["weather registered", "weather online"]);
	});

	test("the end of one instance and the start of the next pass each other in no order unseen", async () => {
		const { clock, optionsOf } = twoNodes();
		const a = await world(optionsOf("a"));
		const b = await world(optionsOf("b"));
		for (let round = 0; round < 20; round++) {
			await a.register(weather);
			const ends = clock.advance(30_000);
			for (let turn = 0; turn < round; turn++) await Promise.resolve();
			await b.register(weather);
			await ends;
			await clock.advance(60_000);
		}
		const told = a.toldInShort().slice(1);
		for (let at = 0; at < told.length; at++) expect(told[at]).toBe(at % 2 === 0 ? "weather online" : "weather offline");
		expect(told.at(-1)).toBe("weather offline");
	});
});
