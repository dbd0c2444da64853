import { describe, expect, test } from "vitest";
import { HubError } from "../../src/hub-error.ts";
import { openWorlds } from "../harness/open-worlds.ts";
import { PluginReader as Reader } from "../harness/plugin-reader.ts";
import { OPERATOR, plugin } from "../harness/plugin-world.ts";

const world = openWorlds();

const weather = plugin("weather");
const mail = plugin("mail");
const spy = plugin("spy");

describe("watch", () => {
	test("gives a snapshot, then each change as it was and is", async () => {
		const hub = await world();
		await hub.register(weather);
		const reader = new Reader(hub, mail);
		const ready = await reader.read();
		expect(ready).toMatchObject({ frame: { case: "ready", value: { heartbeatInterval: { seconds: 15n } } } });
		expect(reader.position).toBeUndefined();
		expect(await reader.readAll()).toEqual(["batch weather", "caughtUp"]);
		expect(reader.known.get("weather")).toEqual((await hub.get(mail, "weather")).plugin);
		expect(reader.position).toMatchObject({ epoch: hub.registry.index.epoch });
		const { plugin: made } = await hub.get(mail, "weather");
		await hub.update(weather, { capabilities: { provides: ["a"] } });
		expect(await reader.read()).toMatchObject({
			frame: {
				case: "batch",
				value: {
					changes: [
						{
							pluginId: "weather",
							previous: { revision: made?.revision, capabilities: { provides: [] } },
							plugin: { capabilities: { provides: ["a"] } },
						},
					],
				},
			},
		});
		await hub.unregister(weather);
		const gone = await reader.read();
		expect(gone).toMatchObject({ frame: { value: { changes: [{ previous: { id: "weather" } }] } } });
		expect(reader.known.size).toBe(0);
		await reader.leave();
	});

	test("says that it is caught up where there is nothing", async () => {
		const hub = await world();
		const reader = new Reader(hub, mail);
		expect(await reader.readAll()).toEqual(["ready", "caughtUp"]);
		await reader.leave();
	});

	test("is of one plugin where that is asked for", async () => {
		const hub = await world();
		await hub.register(mail);
		const reader = new Reader(hub, mail, undefined, "weather");
		expect(await reader.readAll()).toEqual(["ready", "caughtUp"]);
		await hub.register(plugin("other"));
		await hub.register(weather);
		expect(await reader.readAll()).toEqual(["batch weather"]);
		await reader.leave();
		const wrong = hub.watch(mail, { pluginId: "A B" }, new AbortController().signal);
		await expect(wrong.next()).rejects.toMatchObject({ reason: "INVALID_PLUGIN_ID" });
	});

	test("tells a plugin that stops admitting the reader as gone, and the other way as new", async () => {
		const hub = await world();
		await hub.register(weather);
		const reader = new Reader(hub, spy);
		await reader.readAll();
		const deny = (ids: string[]) => hub.update(weather, { capabilities: { accessControl: { allow: [], deny: ids } } });
		await deny(["spy"]);
		const gone = await reader.read();
		expect(gone).toMatchObject({ frame: { value: { changes: [{ pluginId: "weather" }] } } });
		expect(reader.known.size).toBe(0);
		await hub.update(weather, { capabilities: { provides: ["secret"], accessControl: { allow: [], deny: ["spy"] } } });
		expect(await reader.readAll()).toEqual([]);
		await deny([]);
		const back = await reader.read();
		if (typeof back === "string" || back.frame.case !== "batch") throw new Error("expected a change");
		expect(back.frame.value.changes[0]?.previous).toBeUndefined();
		expect(reader.known.has("weather")).toBe(true);
		await reader.leave();
	});

	test("tells a reader that lags of several changes as one", async () => {
		const hub = await world();
		await hub.register(weather);
		const reader = new Reader(hub, mail);
		await reader.readAll();
		const before = reader.known.get("weather")?.capabilities?.provides;
		expect(before).toBeDefined();
		for (let at = 0; at < 500; at++) await hub.update(weather, { capabilities: { provides: [`a${at}`] } });
		const frame = await reader.read();
		expect(frame).toMatchObject({
			frame: {
				value: {
					changes: [
						{ previous: { capabilities: { provides: before } }, plugin: { capabilities: { provides: ["a499"] } } },
					],
				},
			},
		});
		expect(await reader.readAll()).toEqual([]);
		await reader.leave();
	});

	test("misses nothing where more is written at once than the store's window of changes holds", async () => {
		const hub = await world();
		const reader = new Reader(hub, OPERATOR);
		await reader.readAll();
		const ended: string[] = [];
		hub.registry.onInstanceEnd((id) => ended.push(id));
		const all = Array.from({ length: 3000 }, (_, at) => plugin(`p${at}`));
		await Promise.all(all.map((one) => hub.register(one)));
		await reader.readAll();
		expect(reader.known.size).toBe(3000);
		await Promise.all(all.slice(0, 2990).map((one) => hub.unregister(one)));
		await reader.readAll();
		expect(reader.known.size).toBe(10);
		expect(hub.registry.index.size).toBe(10);
		expect(ended).toHaveLength(2990);
		await reader.leave();
	});

	test("passes over many hidden plugins without an end to its patience", async () => {
		const hub = await world();
		const hidden = { accessControl: { allow: [], deny: ["*"] } };
		const all = Array.from({ length: 2500 }, (_, at) => plugin(`a${at}`));
		await Promise.all(all.map((one) => hub.register(one, { withoutInstance: true, capabilities: hidden })));
		await hub.register(weather, { withoutInstance: true });
		const reader = new Reader(hub, mail);
		const told: string[] = [];
		for (let turn = 0; turn < 10; turn++) {
			told.push(...(await reader.readAll()));
			await hub.clock.advance(0);
		}
		expect(told).toEqual(["ready", "batch weather", "caughtUp"]);
		await reader.leave();
	});

	test("sends a heartbeat after 15 quiet seconds", async () => {
		const hub = await world();
		const reader = new Reader(hub, mail);
		await reader.readAll();
		for (let beat = 0; beat < 2; beat++) {
			await hub.clock.advance(14_999);
			expect(await reader.readAll()).toEqual([]);
			await hub.clock.advance(1);
			expect(await reader.readAll()).toEqual(["heartbeat"]);
		}
		await reader.leave();
	});

	test.each([
		["HUB_DRAINING", "draining"],
		["PERMISSION_REVOKED", "revoked"],
	] as const)("ends on %s with the frame %s and the error", async (reason, frame) => {
		const hub = await world();
		const error = new HubError(reason, "that was it");
		const reader = new Reader(hub, mail);
		await reader.readAll();
		expect(await reader.leave(error)).toMatchObject({ value: { frame: { case: frame } } });
		expect(hub.openStreams.size).toBe(0);
		await expect(reader.read()).rejects.toBe(error);
	});

	test("ends when its right to exist is taken away", async () => {
		const hub = await world();
		const reader = new Reader(hub, mail);
		await reader.readAll();
		for (const revoke of hub.openStreams) revoke(new HubError("PLUGIN_DISABLED", "disabled"));
		expect(await reader.read()).toMatchObject({
			frame: { case: "revoked", value: { reason: "PLUGIN_DISABLED", message: "disabled" } },
		});
		await expect(reader.read()).rejects.toMatchObject({ reason: "PLUGIN_DISABLED" });
	});

	test("lets go of everything when the caller leaves with a frame untaken", async () => {
		const hub = await world();
		await hub.register(weather);
		const abort = new AbortController();
		const frames = hub.watch(mail, {}, abort.signal);
		await frames.next();
		expect(hub.openStreams.size).toBe(1);
		abort.abort(new HubError("CANCELLED", "gone"));
		expect(hub.openStreams.size).toBe(0);
	});
});
