import { describe, expect, test } from "vitest";
import { TrustLevel } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import { HubError } from "../../src/hub-error.ts";
import { refused } from "../harness/refused.ts";
import { backends } from "../harness/state-backends.ts";
import { ABSENT, at, change, json, StoreWorld, set, textOf } from "../harness/store-world.ts";

const repeat = (requestId: string, digest = "d") => ({
	request: { principal: "plugin:owner", method: "stores", requestId, digest: Buffer.from(digest) },
});

describe.each(backends)("stores on $name", (backend) => {
	test("are made, changed, given away and deleted, and outlive a restart", async () => {
		await using world = await StoreWorld.open(backend);
		const { definitions } = world.stores;
		const heard: string[] = [];
		definitions.onChange((name, before, after) => heard.push(`${name} ${before?.owner ?? "-"} ${after?.owner ?? "-"}`));
		const made = await world.create("s", { history: 3 });
		expect(made.config).toMatchObject({ persistent: true, history: 3, quota: { keys: 100_000n, bytes: 268_435_456n } });
		await expect(world.create("s", { persistent: false })).rejects.toEqual(refused("STORE_EXISTS"));
		const wrong = definitions.update("s", made.config, change({ expected: at(made.revision + 1) }));
		await expect(wrong).rejects.toEqual(refused("REVISION_MISMATCH"));
		await expect(world.update("s", { persistent: false })).rejects.toEqual(refused("INVALID_FIELD"));
		const updated = await world.update("s", { description: "d" });
		expect(updated).toMatchObject({ id: made.id, owner: "owner", history: 1 });
		await definitions.transfer("s", "heir", change({ expected: at(updated.revision) }));
		await world.set(definitions.find("s")!, "k", 1);
		await world.restart();
		const kept = world.stores.definitions.find("s")!;
		expect(kept).toMatchObject({ id: made.id, owner: "heir" });
		expect(kept.show()).toMatchObject({ createTime: made.show().createTime, usage: { keys: 1n, bytes: 2n } });
		await world.stores.definitions.delete("s", change());
		expect(world.stores.definitions.find("s")).toBeUndefined();
		await expect(world.stores.definitions.delete("s", change())).rejects.toEqual(refused("STORE_NOT_FOUND"));
		const again = await world.create("s");
		expect(again.id).not.toBe(made.id);
		expect(world.get(again, "k")).toBeUndefined();
		expect(heard).toEqual(["s - owner", "s owner owner", "s owner heir"]);
	});

	test("that are not persistent end with the process", async () => {
		await using world = await StoreWorld.open(backend);
		const store = await world.create("v", { persistent: false });
		await world.set(store, "k", 1);
		await world.restart();
		expect(world.stores.definitions.find("v") === undefined).toBe(world.forgets);
		await world.create("w", { persistent: false });
		await expect(world.create("w")).rejects.toEqual(refused("STORE_EXISTS"));
	});

	test("answer a repeated request as the first time, whichever keyspace they are in", async () => {
		await using world = await StoreWorld.open(backend);
		const first = await world.tryCreate("s", { persistent: false }, "owner", change(repeat("1")));
		const again = await world.tryCreate("s", { persistent: false }, "owner", change(repeat("1")));
		expect(again).toMatchObject({ duplicate: true, stored: false, store: { revision: first.store.revision } });
		const other = world.tryCreate("t", {}, "owner", change(repeat("1", "e")));
		await expect(other).rejects.toEqual(refused("ID_REUSED"));
		await world.stores.definitions.delete("s", change(repeat("2")));
		expect(await world.stores.definitions.delete("s", change(repeat("2")))).toMatchObject({ duplicate: true });
	});

	test("take further writes into their commit, those that are not persistent before it", async () => {
		await using world = await StoreWorld.open(backend);
		const also = (key: string) => change({ also: [{ key, value: Buffer.from("x") }] });
		await world.tryCreate("s", {}, "owner", also("a/1"));
		await world.tryCreate("v", { persistent: false }, "owner", also("a/2"));
		await world.stores.definitions.delete("v", also("a/3"));
		expect(world.state.kv.range({ start: "a/", end: "a0", limit: 10 }).entries).toHaveLength(3);
		await world.tryCreate("t", {}, "owner", { ...also("a/4"), validateOnly: true });
		expect(world.stores.definitions.find("t")).toBeUndefined();
		expect(world.state.kv.get("a/4")).toBeUndefined();
	});
});

test("an owner has at most 100 stores, and pages come in the order of names", async () => {
	await using world = await StoreWorld.open();
	for (let n = 0; n < 100; n++) await world.create(`s${String(n).padStart(3, "0")}`, { persistent: n % 2 === 0 });
	await expect(world.create("more")).rejects.toEqual(refused("LIMIT_EXCEEDED"));
	const others = await world.create("more", {}, "other");
	await expect(world.stores.definitions.transfer("more", "owner", change())).rejects.toEqual(refused("LIMIT_EXCEEDED"));
	const page = world.stores.definitions.page(60, undefined, () => true, "owner");
	const rest = world.stores.definitions.page(60, page.next, (store) => store.name !== "s099", "owner");
	expect([...page.stores, ...rest.stores].map(({ name }) => name)).toEqual(
		Array.from({ length: 99 }, (_, n) => `s${String(n).padStart(3, "0")}`),
	);
	expect(rest.next).toBeUndefined();
	expect(others.owner).toBe("other");
});

test("lists admit by id, category, and trust, and the owner always", async () => {
	await using world = await StoreWorld.open();
	const store = await world.create("s", {
		read: { plugins: ["*"], minTrustLevel: TrustLevel.BASIC },
		write: { plugins: ["friend"], categories: ["tools"] },
	});
	const caller = (pluginId: string, trust = TrustLevel.UNTRUSTED, ...categories: string[]) => ({
		pluginId,
		trust,
		categories,
	});
	expect(store.standing("read", caller("x"))).toBe("trust-too-low");
	expect(store.standing("read", caller("x", TrustLevel.TRUSTED))).toBe("admitted");
	expect(store.standing("write", caller("x", TrustLevel.TRUSTED))).toBe("not-admitted");
	expect(store.admits("write", caller("friend"))).toBe(true);
	expect(store.admits("write", caller("y", TrustLevel.UNTRUSTED, "other", "tools"))).toBe(true);
	expect(store.standing("admin", caller("friend"))).toBe("not-admitted");
	expect(store.standing("admin", caller("owner"))).toBe("owner");
});

test("validators judge what is written, with what was there; those that are not there let nothing through", async () => {
	const refusal = new HubError("VALIDATION_FAILED", "no");
	let compiles = true;
	await using world = await StoreWorld.open(undefined, {
		compile: () => {
			if (!compiles) throw new Error("no such function");
			return {
				check: ({ value, oldValue }) => (oldValue && Buffer.compare(value, oldValue) < 0 ? refusal : undefined),
			};
		},
	});
	const rule = { case: "function", value: "grows" } as const;
	const store = await world.create("s", { validators: [{ name: "grows", rule }] });
	await world.set(store, "k", 5);
	await expect(world.set(store, "k", 4)).rejects.toBe(refusal);
	await world.write({ ...set(store, "k", 0), value: json(6) } as ReturnType<typeof set>);
	compiles = false;
	await world.restart();
	const kept = world.stores.definitions.find("s")!;
	await expect(world.set(kept, "k", 7)).rejects.toEqual(refused("FEATURE_NOT_AVAILABLE"));
	expect(textOf(world.get(kept, "k"))).toBe("6");
	await expect(world.update("s", { validators: [{ name: "grows", rule }] })).rejects.toThrow("no such function");
	expect(world.faults).toHaveLength(1);
	await expect(world.tryCreate("s", {}, "owner", change({ expected: ABSENT }))).rejects.toEqual(
		refused("STORE_EXISTS"),
	);
});
