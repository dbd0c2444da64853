import { describe, expect, test } from "vitest";
import { PluginState } from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import { PluginFeed } from "../../src/plugins/plugin-feed.ts";
import { wrapKv } from "../harness/kv-wrapper.ts";
import { openWorlds } from "../harness/open-worlds.ts";
import { PluginReader as Reader } from "../harness/plugin-reader.ts";
import { plugin } from "../harness/plugin-world.ts";

const world = openWorlds();

const weather = plugin("weather");
const mail = plugin("mail");

describe("a resumed watch", () => {
	test("tells what changed since, as it was and is", async () => {
		const hub = await world();
		await hub.register(weather);
		await hub.register(plugin("stays"));
		const reader = new Reader(hub, mail);
		await reader.readAll();
		await reader.leave();
		await hub.update(weather, { capabilities: { provides: ["a"] } });
		await hub.update(weather, { capabilities: { provides: ["b"] } });
		await hub.register(plugin("new"));
		await hub.register(plugin("brief"));
		await hub.unregister(plugin("brief"));
		const again = new Reader(hub, mail, reader);
		expect(await again.read()).toMatchObject({ position: reader.position, frame: { case: "ready" } });
		const told = await again.read();
		if (typeof told === "string" || told.frame.case !== "batch") throw new Error("expected changes");
		expect(told.frame.value.changes).toHaveLength(3);
		expect(told.frame.value.changes).toMatchObject([
			{
				pluginId: "weather",
				previous: { capabilities: { provides: [] }, state: PluginState.ONLINE },
				plugin: { capabilities: { provides: ["b"] } },
			},
			{ pluginId: "new", plugin: { id: "new" } },
			// A frame may show more than its position says, so the reader might know it.
			{ pluginId: "brief" },
		]);
		expect(told.frame.value.changes[2]?.plugin).toBeUndefined();
		expect(told.frame.value.changes[2]?.previous).toBeUndefined();
		expect(told.frame.value.changes[1]?.previous).toBeUndefined();
		expect(await again.readAll()).toEqual(["caughtUp"]);
		await again.leave();
	});

	test("misses nothing that came while the snapshot was read", async () => {
		const hub = await world();
		await hub.register(weather);
		const reader = new Reader(hub, mail);
		await reader.read();
		await hub.register(plugin("late"));
		await hub.update(weather, { capabilities: { provides: ["a"] } });
		expect(await reader.read()).toMatchObject({ frame: { case: "batch" } });
		expect([...reader.known.keys()]).toEqual(["weather"]);
		await reader.leave();
		const again = new Reader(hub, mail, reader);
		await again.readAll();
		expect([...again.known.keys()].sort()).toEqual(["late", "weather"]);
		await again.leave();
	});

	test("moves its position only when all that came before it is told", async () => {
		const hub = await world();
		await hub.register(weather);
		using feed = PluginFeed.snapshot({ kv: hub.state.kv, index: hub.registry.index, viewer: undefined });
		expect(feed.take(10, 1_000_000)).toHaveLength(1);
		const before = hub.registry.index.revision;
		expect(feed.position).toBe(before);
		for (const id of ["one", "two"]) await hub.register(plugin(id));
		expect(feed.take(1, 1_000_000).map(({ id }) => id)).toEqual(["one"]);
		expect(feed.position).toBe(before);
		expect(feed.take(10, 1_000_000).map(({ id }) => id)).toEqual(["two"]);
		expect(feed.position).toBe(hub.registry.index.revision);
	});

	test("tells of one past where a plugin changed before and while the past was read", async () => {
		const hub = await world();
		await hub.register(weather);
		const { revision } = hub.registry.index;
		await hub.update(weather, { capabilities: { provides: ["a"] } });
		const gate = Promise.withResolvers<void>();
		const { kv } = hub.state;
		const gated = wrapKv(kv, {
			async *watch(prefix, options) {
				await gate.promise;
				yield* kv.watch(prefix, options);
			},
		});
		const options = { kv: gated, index: hub.registry.index, viewer: undefined };
		const resumed = PluginFeed.resume(options, revision, new AbortController().signal);
		await hub.register(weather);
		gate.resolve();
		using feed = await resumed;
		const [change, ...others] = feed.take(10, 1_000_000);
		expect(others).toEqual([]);
		expect(change?.before?.instances).toHaveLength(1);
		expect(change?.before?.capabilities.provides).toEqual([]);
		expect(change?.after?.instances).toHaveLength(2);
	});

	test("goes on after a restart of the hub", async () => {
		const before = await world();
		await before.register(weather);
		const reader = new Reader(before, mail);
		await reader.readAll();
		await reader.leave();
		await before.unregister(weather);
		await before.stop();
		const after = await world({ clock: before.clock, ids: before.ids, state: before.state });
		await after.register(plugin("new"));
		const again = new Reader(after, mail, reader);
		expect(await again.readAll()).toEqual(["ready", "batch weather new", "caughtUp"]);
		expect([...again.known.keys()]).toEqual(["new"]);
		await again.leave();
	});

	test("is refused where its changes are not known any more, or lie ahead", async () => {
		const hub = await world();
		await hub.register(weather);
		const reader = new Reader(hub, mail);
		await reader.readAll();
		await reader.leave();
		const { epoch, sequence } = reader.position!;
		const start = (after: { epoch: string; sequence: bigint }) =>
			hub.watch(mail, { after }, new AbortController().signal).next();
		await expect(start({ epoch: "other", sequence })).rejects.toMatchObject({ reason: "POSITION_TRIMMED" });
		await expect(start({ epoch, sequence: sequence + 1000n })).rejects.toMatchObject({
			reason: "INVALID_FIELD",
			metadata: { field: "after.sequence" },
		});
		await hub.clock.advance(11 * 60_000);
		await hub.update(weather, { capabilities: { provides: ["a"] } });
		await hub.clock.advance(11 * 60_000);
		await expect(start({ epoch, sequence })).rejects.toMatchObject({ reason: "POSITION_TRIMMED" });
	});
});
