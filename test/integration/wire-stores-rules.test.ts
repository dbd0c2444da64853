import { durationFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { expect, it } from "vitest";
import { failureOf } from "../harness/failure.ts";
import { describeHubs, manifestOf, until } from "../harness/hub.ts";
import { SkippingClock, UNHURRIED } from "../harness/skipping-clock.ts";
import { binary, contents, setOf } from "../harness/store-values.ts";

const SCHEMA = JSON.stringify({ type: "object", properties: { n: { type: "integer", minimum: 0 } }, required: ["n"] });

/** Lets time pass, in steps that a commit on its way survives. */
async function pass(clock: SkippingClock, ms: number): Promise<void> {
	for (let left = ms; left > 0; left -= 10_000) {
		clock.skip(Math.min(left, 10_000));
		await new Promise((resolve) => setTimeout(resolve, 20));
	}
}

describeHubs("what a store asks of its entries", (start) => {
	it("is judged by its validators in their order, each naming itself, the path and the rule", async () => {
		await using hub = await start({
			storeValidators: {
				even: ({ value }) => ((value as { n: number }).n % 2 === 0 ? undefined : { message: "is odd" }),
			},
		});
		const { stores } = await hub.enrol("plugin");
		const validators = [
			{ name: "shape", keyGlob: "n/*", rule: { case: "jsonSchema", value: SCHEMA } },
			{ name: "grows", keyGlob: "n/*", rule: { case: "cel", value: "!exists || value.n > old_value.n" } },
			{ name: "even", keyGlob: "n/*", rule: { case: "function", value: "even" } },
		] as const;
		for (const persistent of [true, false]) {
			const store = persistent ? "s" : "v";
			await stores.createStore({ name: store, config: { persistent, validators: [...validators] } });
			const set = (value: unknown, key = "n/1") => stores.set({ set: setOf(store, key, value) });
			await set({ n: 2 });
			expect(await failureOf(set({ n: -2 }))).toMatchObject({
				code: "FailedPrecondition",
				reason: "VALIDATION_FAILED",
				metadata: { validator: "shape", path: "/n", rule: "minimum 0" },
			});
			expect(await failureOf(set({ n: 2 }))).toMatchObject({
				reason: "VALIDATION_FAILED",
				metadata: { validator: "grows" },
			});
			expect(await failureOf(set({ n: 3 }))).toMatchObject({
				reason: "VALIDATION_FAILED",
				metadata: { validator: "even" },
			});
			const bytes = stores.set({ set: { store, key: "n/1", value: binary(Buffer.from("{}")) } });
			expect(await failureOf(bytes)).toMatchObject({ reason: "VALIDATION_FAILED", metadata: { validator: "shape" } });
			await set({ n: 4 });
			await set("anything", "other");
			expect(contents((await stores.list({ store })).entries)).toEqual({ "n/1": { n: 4 }, other: "anything" });
		}
	});

	it("is bounded for the store and for each plugin in it", async () => {
		await using hub = await start();
		const { stores } = await hub.enrol("owner");
		const guest = await hub.enrol("guest");
		for (const persistent of [true, false]) {
			const store = persistent ? "s" : "v";
			await stores.createStore({
				name: store,
				config: {
					persistent,
					write: { plugins: ["*"] },
					quota: { keys: 3n, bytes: 100n },
					pluginQuota: { keys: 2n, bytes: 60n },
				},
			});
			for (const key of ["a", "b"]) await guest.stores.set({ set: setOf(store, key, 1) });
			const third = guest.stores.set({ set: setOf(store, "c", 1) });
			expect(await failureOf(third)).toMatchObject({
				code: "ResourceExhausted",
				reason: "QUOTA_EXCEEDED",
				details: ["QuotaFailure"],
			});
			await stores.set({ set: setOf(store, "c", 1) });
			expect(await failureOf(stores.set({ set: setOf(store, "d", 1) }))).toMatchObject({ reason: "QUOTA_EXCEEDED" });
			expect(await failureOf(stores.set({ set: setOf(store, "c", "x".repeat(58)) }))).toMatchObject({
				reason: "QUOTA_EXCEEDED",
			});
			await guest.stores.delete({ delete: { store, key: "a" } });
			await stores.set({ set: setOf(store, "d", 1) });
			const usage = (await stores.getStore({ name: store })).store?.usage;
			expect(usage).toMatchObject({ keys: 3n, bytes: 6n });
		}
	});

	it("ends when its time is over", async () => {
		const clock = new SkippingClock();
		await using hub = await start({ clock, options: UNHURRIED });
		const { stores } = await hub.enrol("plugin");
		for (const persistent of [true, false]) {
			const store = persistent ? "s" : "v";
			await stores.createStore({ name: store, config: { persistent, defaultTtl: durationFromMs(60_000) } });
			const ttl = (ms: number) => ({ ttl: durationFromMs(ms) });
			await stores.set({ set: setOf(store, "default", 1) });
			await stores.set({ set: setOf(store, "short", 1, ttl(10_000)) });
			await stores.set({ set: setOf(store, "ever", 1, ttl(0)) });
			await stores.increment({ increment: { store, key: "n", delta: 1n, ...ttl(10_000) } });
			const { entry } = await stores.get({ store, key: "short" });
			expect(timestampMs(entry!.expireTime!) - timestampMs(entry!.updateTime!)).toBe(10_000);
			await stores.increment({ increment: { store, key: "n", delta: 1n } });
			const keys = async () => Object.keys(contents((await stores.list({ store })).entries));
			await pass(clock, 11_000);
			await until(async () => (await keys()).length === 2);
			expect(await keys()).toEqual(["default", "ever"]);
			await pass(clock, 60_000);
			await until(async () => (await keys()).length === 1);
			// What is over is not shown any more, and soon not there.
			await until(async () => (await stores.getStore({ name: store })).store?.usage?.keys === 1n);
			for (const bad of [0.5, -1, 3661 * 86_400_000]) {
				const nanos = { seconds: BigInt(Math.floor(bad / 1000)), nanos: bad === 0.5 ? 500_000 : 0 };
				const call = stores.set({ set: setOf(store, "x", 1, { ttl: nanos }) });
				expect((await failureOf(call)).fields, String(bad)).toEqual(["set.ttl"]);
			}
		}
	});

	it("lives by its writer's instance where it says so", async () => {
		const clock = new SkippingClock();
		await using hub = await start({ clock, options: { ...UNHURRIED, leaseMs: 30_000 } });
		const plugin = await hub.enrol("plugin");
		const { stores } = plugin;
		const { instanceId } = await plugin.plugins.register({ manifestJson: manifestOf("plugin") });
		const other = await hub.enrol("other");
		for (const persistent of [true, false]) {
			const store = persistent ? "s" : "v";
			await stores.createStore({ name: store, config: { persistent, write: { plugins: ["other"] } } });
			await stores.set({ set: setOf(store, "here", 1, { instanceId }) });
			await stores.set({ set: setOf(store, "stays", 1) });
			const unknown = other.stores.set({ set: setOf(store, "x", 1, { instanceId }) });
			expect(await failureOf(unknown)).toMatchObject({ code: "NotFound", reason: "INSTANCE_NOT_FOUND" });
		}
		expect((await stores.get({ store: "s", key: "here" })).entry?.instanceId).toBe(instanceId);
		await pass(clock, 31_000);
		for (const store of ["s", "v"]) {
			await until(async () => (await stores.list({ store })).entries.length === 1);
			expect(contents((await stores.list({ store })).entries)).toEqual({ stays: 1 });
		}
	});
});
