import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Plugin, PluginState } from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import type { Caller } from "../../src/security/caller.ts";
import { PluginReader as Reader } from "../harness/plugin-reader.ts";
import { OPERATOR, PluginWorld, plugin } from "../harness/plugin-world.ts";

const mail = plugin("mail");
const spy = plugin("spy");

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
