import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import type { Position } from "#gen/qirvo/hub/v1/payload_pb.js";
import { type Plugin, type PluginServiceWatchResponse, PluginState } from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import { HubError } from "../../src/hub-error.ts";
import { PluginFeed } from "../../src/plugins/plugin-feed.ts";
import type { Caller } from "../../src/security/caller.ts";
import { wrapKv } from "../harness/kv-wrapper.ts";
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
	for (const one of all) {
		expect(one.clock.pendingTimers).toBe(0);
		expect(one.openStreams.size).toBe(0);
	}
});

/** A reader that takes one frame at a time and keeps what it was told. */
class Reader {
	readonly #abort = new AbortController();
	readonly #frames: AsyncGenerator<PluginServiceWatchResponse, void, undefined>;
	#pending: Promise<IteratorResult<PluginServiceWatchResponse, void>> | undefined;
	readonly known: Map<string, Plugin>;
	position: Position | undefined;
	caughtUp = false;

	constructor(hub: PluginWorld, caller: Caller, before?: Reader, pluginId = "") {
		const after = before?.position;
		this.known = after ? new Map(before!.known) : new Map();
		this.position = after;
		this.#frames = hub.watch(caller, { after, pluginId }, this.#abort.signal);
	}

	/** The next frame; "nothing" where none is there once all that can settle has settled. */
	async read(): Promise<PluginServiceWatchResponse | "nothing" | "end"> {
		this.#pending ??= this.#frames.next();
		const result = await Promise.race([this.#pending, settled()]);
		if (result === undefined) return "nothing";
		this.#pending = undefined;
		if (result.done) return "end";
		const frame = result.value;
		this.position = frame.position;
		if (frame.frame.case === "caughtUp") this.caughtUp = true;
		if (frame.frame.case === "batch") {
			expect(frame.frame.value.changes.length).toBeGreaterThan(0);
			for (const change of frame.frame.value.changes) {
				if (change.plugin) this.known.set(change.pluginId, change.plugin);
				else this.known.delete(change.pluginId);
			}
		}
		return frame;
	}

	/** Everything that is there now, in short: `ready`, `batch weather`, `caughtUp`, ... */
	async readAll(): Promise<string[]> {
		const all: string[] = [];
		for (let frame = await this.read(); typeof frame !== "string"; frame = await this.read()) {
			const ids = frame.frame.case === "batch" ? frame.frame.value.changes.map((change) => change.pluginId) : [];
			all.push([frame.frame.case, ...ids].join(" "));
		}
		return all;
	}

	/** As a caller that is gone. */
	async leave(reason = new HubError("CANCELLED", "gone")): Promise<unknown> {
		this.#abort.abort(reason);
		const pending = this.#pending ?? this.#frames.next();
		this.#pending = undefined;
		return await pending.catch((error) => error);
	}
}

async function settled(): Promise<undefined> {
	for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
	return undefined;
}

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
		expect(told.frame.value.changes).toHaveLength(2);
		expect(told.frame.value.changes).toMatchObject([
			{
				pluginId: "weather",
				previous: { capabilities: { provides: [] }, state: PluginState.ONLINE },
				plugin: { capabilities: { provides: ["b"] } },
			},
			{ pluginId: "new", plugin: { id: "new" } },
		]);
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

describe("under any interleaving", () => {
	const ids = ["a", "b", "c", "mail"];
	const id = fc.constantFrom(...ids);
	const access = fc.constantFrom<[string[], string[]]>([[], []], [["mail"], []], [[], ["mail"]], [["spy"], []]);
	const step = fc.oneof(
		fc.record({ do: fc.constant("register" as const), id, access, alone: fc.boolean() }),
		fc.record({ do: fc.constant("update" as const), id, access }),
		fc.record({ do: fc.constant("unregister" as const), id }),
		fc.record({ do: fc.constant("disable" as const), id }),
		fc.record({ do: fc.constant("enable" as const), id }),
		fc.record({ do: fc.constant("pass" as const), ms: fc.constantFrom(1000, 31_000) }),
		fc.record({ do: fc.constant("read" as const), reader: fc.nat(2), frames: fc.integer({ min: 1, max: 4 }) }),
		fc.record({ do: fc.constant("leave" as const), reader: fc.nat(2) }),
		fc.record({ do: fc.constant("settle" as const) }),
	);

	/** What a reader and a list must agree on. */
	const inShort = (plugins: Iterable<Plugin>) =>
		[...plugins]
			.map((one) => `${one.id} ${one.revision} ${PluginState[one.state]} ${one.instances.map((i) => i.id).join("+")}`)
			.sort();

	test("what readers were told adds up to what is listed", async () => {
		await fc.assert(
			fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), async (steps) => {
				const hub = await PluginWorld.open();
				const callers: Caller[] = [OPERATOR, mail, spy];
				const readers = callers.map((caller) => new Reader(hub, caller));
				let running: Promise<unknown>[] = [];
				// Refusals (not found, disabled) are part of the game.
				const run = (call: Promise<unknown>) => void running.push(call.catch(() => {}));
				let version = 0;
				for (const one of steps) {
					if (one.do === "register" || one.do === "update") {
						const [allow, deny] = one.access;
						const capabilities = { accessControl: { allow, deny }, provides: [`v${version++ % 3}`] };
						const caller = plugin(one.id);
						if (one.do === "update") run(hub.update(caller, { capabilities }));
						else run(hub.register(caller, { capabilities, withoutInstance: one.alone }));
					} else if (one.do === "unregister") run(hub.unregister(OPERATOR, { pluginId: one.id }));
					else if (one.do === "disable") run(hub.disable(OPERATOR, { pluginId: one.id }));
					else if (one.do === "enable") run(hub.enable(OPERATOR, { pluginId: one.id }));
					else if (one.do === "pass") await hub.clock.advance(one.ms);
					else if (one.do === "settle") {
						await Promise.all(running);
						running = [];
					} else if (one.do === "read") {
						for (let at = 0; at < one.frames; at++) await readers[one.reader]!.read();
					} else if (one.do === "leave") {
						await readers[one.reader]!.leave();
						readers[one.reader] = new Reader(hub, callers[one.reader]!, readers[one.reader]);
					}
				}
				await Promise.all(running);
				for (const [at, reader] of readers.entries()) {
					await reader.readAll();
					expect(reader.caughtUp).toBe(true);
					expect(inShort(reader.known.values())).toEqual(inShort((await hub.list(callers[at]!)).plugins));
					await reader.leave();
				}
				expect(hub.openStreams.size).toBe(0);
				await hub[Symbol.asyncDispose]();
				expect(hub.clock.pendingTimers).toBe(0);
			}),
			{ numRuns: 150 },
		);
	});

	test("what was told as the past is what was told before", async () => {
		await fc.assert(
			fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), fc.boolean(), async (steps, operator) => {
				const hub = await PluginWorld.open();
				const caller = operator ? OPERATOR : mail;
				const reader = new Reader(hub, caller);
				const last = new Map<string, string>();
				const short = (one: Plugin | undefined) => (one ? inShort([one])[0] : undefined);
				const readOne = async () => {
					const frame = await reader.read();
					if (typeof frame === "string" || frame.frame.case !== "batch") return;
					for (const { pluginId, previous, plugin: now } of frame.frame.value.changes) {
						expect(short(previous)).toBe(last.get(pluginId));
						expect(previous || now).toBeTruthy();
						if (now) last.set(pluginId, short(now)!);
						else last.delete(pluginId);
					}
				};
				const running: Promise<unknown>[] = [];
				const run = (call: Promise<unknown>) => void running.push(call.catch(() => {}));
				for (const one of steps) {
					if (one.do === "register" || one.do === "update") {
						const capabilities = { accessControl: { allow: one.access[0], deny: one.access[1] } };
						run(hub.register(plugin(one.id), { capabilities }));
					} else if (one.do === "unregister") run(hub.unregister(OPERATOR, { pluginId: one.id }));
					else if (one.do === "disable") run(hub.disable(OPERATOR, { pluginId: one.id }));
					else if (one.do === "enable") run(hub.enable(OPERATOR, { pluginId: one.id }));
					else if (one.do === "pass") await hub.clock.advance(one.ms);
					else await readOne();
				}
				await Promise.all(running);
				for (let turn = 0; turn < 10; turn++) await readOne();
				await reader.leave();
				await hub[Symbol.asyncDispose]();
			}),
			{ numRuns: 100 },
		);
	});
});
