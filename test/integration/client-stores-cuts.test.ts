import { describe, expect, it } from "vitest";
import { connect, type HubClientError, type StoreChange } from "../../src/client/index.ts";
import { clientPlugin } from "../harness/client-plugin.ts";
import { startCuttingRelay } from "../harness/cutting-relay.ts";
import { TestHub, until } from "../harness/hub.ts";

/** Cuts while the writers are at work. */
const CUTS = 12;
const KEYS = 20;

describe.each(["memory", "embedded"] as const)("stores over a connection that breaks (%s)", (state) => {
	it("lose no change, tell none twice, and never pretend", async () => {
		await using hub = await TestHub.start({ options: { state } });
		await using relay = await startCuttingRelay(hub.url);
		await using near = await clientPlugin(hub, "near", connect);
		await near.stores.create("s", { read: { plugins: ["*"] }, write: { plugins: ["*"] } });
		await using far = await clientPlugin(hub, "far", connect, { url: relay.url, random: () => 0.01 });
		const told = new Map<string, StoreChange<number>[]>();
		let last = 0n;
		const wrong: string[] = [];
		const watch = await far.store<number>("s").onChange(({ key, revision, ...rest }) => {
			if (revision <= last) wrong.push(`${key} at ${revision} after ${last}`);
			last = revision;
			told.set(key, [...(told.get(key) ?? []), { key, revision, ...rest }]);
		});
		const cached = far.store<number>("s", { cache: true });
		await cached.warm();

		const stop = new AbortController();
		let sum = 0;
		const counted = { done: 0, unknown: 0 };
		const writes = { near: 0 };
		// Counts under request ids: exactly once, however often the connection breaks.
		const count = async () => {
			while (!stop.signal.aborted) {
				await far.store<number>("s").update("sum", (n = 0) => n + 1);
				sum++;
			}
		};
		// Blind increments: each is done, or said to be of an unknown outcome.
		const increment = async () => {
			while (!stop.signal.aborted) {
				try {
					await far.store("s").increment("blind");
					counted.done++;
				} catch (error) {
					expect((error as HubClientError).reason).toBe("OUTCOME_UNKNOWN");
					counted.unknown++;
				}
			}
		};
		const write = async () => {
			for (let n = 0; !stop.signal.aborted; n++) {
				await near.store<number>("s").set(`k${n % KEYS}`, n);
				writes.near++;
			}
		};
		const read = async () => {
			const known = new Map<string, number>();
			for (let n = 0; !stop.signal.aborted; n++) {
				const key = `k${n % KEYS}`;
				const value = (await cached.get(key))?.value ?? -1;
				if (value < (known.get(key) ?? -1)) wrong.push(`${key}: ${value} is shown after ${known.get(key)}`);
				known.set(key, value);
				if (n % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
			}
		};
		const working = Promise.all([count(), increment(), write(), read()]);
		for (let cut = 0; cut < CUTS; cut++) {
			const before = { writes: writes.near, sum };
			await until(() => writes.near > before.writes + 20 && sum > before.sum, { ms: 15_000 });
			await relay.cut(async () => {});
		}
		stop.abort();
		await working;
		await near.store("s").set("last", 0);
		await until(() => told.has("last"));
		await until(async () => (await cached.get("last")) !== undefined);

		expect(wrong).toEqual([]);
		const entries = (await near.store<number>("s").snapshot()).entries;
		expect(entries.get("sum")?.value).toBe(sum);
		const blind = entries.get("blind")!.value;
		expect(blind).toBeGreaterThanOrEqual(counted.done);
		expect(blind).toBeLessThanOrEqual(counted.done + counted.unknown);
		for (const [key, entry] of entries) {
			const changes = told.get(key)!;
			expect(changes.at(-1)?.revision).toBe(entry.revision);
			expect((await cached.get(key))?.value).toBe(entry.value);
			// Every change begins where the one before ended.
			for (const [at, change] of changes.slice(1).entries())
				expect(change.previous?.revision).toBe(changes[at]!.revision);
		}
		expect([...told.values()].flat().filter(({ resynced }) => resynced)).toEqual([]);
		watch.unwatch();
		cached[Symbol.dispose]();
	});
});
