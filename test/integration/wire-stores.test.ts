import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { expect, it } from "vitest";
import { TrustLevel } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import { failureOf } from "../harness/failure.ts";
import { describeHubs } from "../harness/hub.ts";
import { expects, setOf } from "../harness/store-values.ts";

describeHubs("a store", (start) => {
	it("is made with every default, shown, changed and deleted", async () => {
		await using hub = await start();
		const { stores } = await hub.enrol("owner");
		const request = { name: "Notes:v1", requestId: "c-1" };
		const checked = await stores.createStore({ ...request, validateOnly: true });
		expect(checked.store).toMatchObject({ name: "Notes:v1", owner: "owner" });
		expect(await failureOf(stores.getStore({ name: "Notes:v1" }))).toMatchObject({ reason: "STORE_NOT_FOUND" });

		const { store, duplicate } = await stores.createStore(request);
		expect(duplicate).toBe(false);
		expect(store).toMatchObject({
			name: "Notes:v1",
			owner: "owner",
			config: {
				persistent: true,
				quota: { keys: 100_000n, bytes: 268_435_456n },
				pluginQuota: { keys: 100_000n, bytes: 268_435_456n },
				validators: [],
			},
			usage: { keys: 0n, bytes: 0n },
		});
		expect(store?.epoch).not.toBe("");
		expect(store?.revision).toBeGreaterThan(0n);
		expect(store?.createTime).toEqual(store?.updateTime);
		expect(await stores.createStore(request)).toEqual({
			...(await stores.createStore(request)),
			store,
			duplicate: true,
		});
		expect(await failureOf(stores.createStore({ ...request, config: { history: 3 } }))).toMatchObject({
			code: "Aborted",
			reason: "ID_REUSED",
		});
		expect(await failureOf(stores.createStore({ name: "Notes:v1" }))).toMatchObject({
			code: "AlreadyExists",
			reason: "STORE_EXISTS",
		});
		expect((await stores.getStore({ name: "Notes:v1" })).store).toEqual(store);

		const config = {
			read: { plugins: ["*"] },
			history: 4,
			description: "what people noted",
			defaultTtl: durationFromMs(60_000),
		};
		const stale = stores.updateStore({ name: "Notes:v1", config, expected: expects.revision(store!.revision + 1n) });
		expect(await failureOf(stale)).toMatchObject({ code: "Aborted", reason: "REVISION_MISMATCH" });
		const update = { name: "Notes:v1", config, expected: expects.revision(store!.revision), requestId: "u-1" };
		const updated = await stores.updateStore(update);
		expect(updated.store).toMatchObject({
			epoch: store!.epoch,
			config: { history: 4, persistent: true },
			owner: "owner",
		});
		expect(updated.store!.revision).toBeGreaterThan(store!.revision);
		expect(await stores.updateStore(update)).toEqual({ ...updated, duplicate: true });
		const moved = stores.updateStore({ name: "Notes:v1", config: { ...config, persistent: false } });
		expect((await failureOf(moved)).fields).toEqual(["config.persistent"]);

		await stores.set({ set: setOf("Notes:v1", "a", 1) });
		expect((await stores.getStore({ name: "Notes:v1" })).store?.usage).toEqual(
			expect.objectContaining({ keys: 1n, bytes: 2n }),
		);
		await stores.deleteStore({ name: "Notes:v1", validateOnly: true });
		expect(await stores.deleteStore({ name: "Notes:v1", requestId: "d-1" })).toMatchObject({ duplicate: false });
		expect(await stores.deleteStore({ name: "Notes:v1", requestId: "d-1" })).toMatchObject({ duplicate: true });
		expect(await failureOf(stores.deleteStore({ name: "Notes:v1" }))).toMatchObject({
			code: "NotFound",
			reason: "STORE_NOT_FOUND",
			metadata: { store: "Notes:v1" },
		});
		const again = await stores.createStore({ name: "Notes:v1" });
		expect(again.store?.epoch).not.toBe(store!.epoch);
		expect(await failureOf(stores.get({ store: "Notes:v1", key: "a" }))).toMatchObject({ reason: "ENTRY_NOT_FOUND" });
	});

	it("is refused with the field where its configuration cannot be used", async () => {
		await using hub = await start();
		const { stores } = await hub.enrol("owner");
		const schema = { case: "jsonSchema", value: "{}" } as const;
		const bad: [object, string][] = [
			[{ name: "" }, "name"],
			[{ name: "-x" }, "name"],
			[{ name: "x".repeat(129) }, "name"],
			[{ config: { read: { plugins: ["UPPER"] } } }, "config.read.plugins[0]"],
			[{ config: { write: { plugins: Array(257).fill("a") } } }, "config.write.plugins"],
			[{ config: { admin: { categories: [""] } } }, "config.admin.categories[0]"],
			[{ config: { admin: { minTrustLevel: 99 } } }, "config.admin.min_trust_level"],
			[{ config: { validators: Array(9).fill({ name: "a", rule: schema }) } }, "config.validators"],
			[{ config: { validators: [{ name: "", rule: schema }] } }, "config.validators[0].name"],
			[{ config: { validators: Array(2).fill({ name: "a", rule: schema }) } }, "config.validators[1].name"],
			[{ config: { validators: [{ name: "a" }] } }, "config.validators[0]"],
			[
				{ config: { validators: [{ name: "a", rule: { case: "jsonSchema", value: "{" } }] } },
				"config.validators[0].json_schema",
			],
			[{ config: { validators: [{ name: "a", rule: { case: "cel", value: "key ==" } }] } }, "config.validators[0].cel"],
			[
				{ config: { validators: [{ name: "a", rule: { case: "function", value: "none" } }] } },
				"config.validators[0].function",
			],
			[{ config: { validators: [{ name: "a", keyGlob: "\\", rule: schema }] } }, "config.validators[0].key_glob"],
			[{ config: { quota: { keys: 10_000_001n } } }, "config.quota.keys"],
			[{ config: { pluginQuota: { bytes: (1n << 40n) + 1n } } }, "config.plugin_quota.bytes"],
			[{ config: { defaultTtl: { seconds: -1n } } }, "config.default_ttl"],
			[{ config: { defaultTtl: { seconds: 3661n * 86_400n } } }, "config.default_ttl"],
			[{ config: { history: 65 } }, "config.history"],
			[{ config: { description: "x".repeat(513) } }, "config.description"],
			[{ requestId: "x".repeat(129) }, "request_id"],
		];
		for (const [request, field] of bad) {
			const failure = await failureOf(stores.createStore({ name: "x", ...request }));
			expect([failure.code, failure.fields], field).toEqual(["InvalidArgument", [field]]);
		}
		expect((await failureOf(stores.updateStore({ name: "x" }))).fields).toEqual(["config"]);
	});

	it("is listed to those who may use it, page by page", async () => {
		await using hub = await start();
		const owner = await hub.enrol("owner");
		const other = await hub.enrol("other");
		for (const name of ["a", "b", "c"]) await owner.stores.createStore({ name });
		await owner.stores.createStore({ name: "open", config: { persistent: false, read: { plugins: ["*"] } } });
		await other.stores.createStore({ name: "d" });
		const names = async (clients: typeof owner, request: object = {}) =>
			(await clients.stores.listStores(request)).stores.map(({ name }) => name);
		expect(await names(owner)).toEqual(["a", "b", "c", "open"]);
		expect(await names(other)).toEqual(["d", "open"]);
		expect(await names(hub.operator)).toEqual(["a", "b", "c", "d", "open"]);
		expect(await names(hub.operator, { owner: "other" })).toEqual(["d"]);
		const first = await owner.stores.listStores({ pageSize: 3 });
		expect(first.stores).toHaveLength(3);
		const rest = await owner.stores.listStores({ pageSize: 3, pageToken: first.nextPageToken });
		expect(rest).toMatchObject({ stores: [{ name: "open" }], nextPageToken: "" });
		const strange = other.stores.listStores({ pageSize: 3, pageToken: first.nextPageToken });
		expect(await failureOf(strange)).toMatchObject({ reason: "INVALID_PAGE_TOKEN" });
	});

	it("goes to another owner, whose it then is", async () => {
		await using hub = await start();
		const owner = await hub.enrol("owner");
		const heir = await hub.enrol("heir");
		await owner.stores.createStore({ name: "s" });
		await owner.stores.set({ set: setOf("s", "k", "kept") });
		expect(await failureOf(owner.stores.transferStore({ name: "s", newOwner: "nobody" }))).toMatchObject({
			reason: "PLUGIN_NOT_FOUND",
		});
		expect(await failureOf(heir.stores.transferStore({ name: "s", newOwner: "heir" }))).toMatchObject({
			reason: "STORE_NOT_FOUND",
		});
		const request = { name: "s", newOwner: "heir", requestId: "t-1" };
		const { store } = await owner.stores.transferStore(request);
		expect(store?.owner).toBe("heir");
		// The answer is still the first one's, though the store is no longer the caller's.
		expect(await owner.stores.transferStore(request)).toMatchObject({ store: { owner: "heir" }, duplicate: true });
		expect(await failureOf(owner.stores.get({ store: "s", key: "k" }))).toMatchObject({ reason: "STORE_NOT_FOUND" });
		expect((await heir.stores.get({ store: "s", key: "k" })).entry?.writer).toBe("owner");
		await hub.operator.stores.transferStore({ name: "s", newOwner: "owner" });
		expect((await owner.stores.getStore({ name: "s" })).store?.owner).toBe("owner");
	});

	it("is one of at most 100 of its owner", async () => {
		await using hub = await start();
		const { stores } = await hub.enrol("owner");
		const names = Array.from({ length: 100 }, (_, index) => `s-${index}`);
		await Promise.all(names.map((name) => stores.createStore({ name, config: { persistent: false } })));
		expect(await failureOf(stores.createStore({ name: "one-more" }))).toMatchObject({
			code: "ResourceExhausted",
			reason: "LIMIT_EXCEEDED",
			details: ["QuotaFailure"],
		});
		await stores.deleteStore({ name: "s-7" });
		await stores.createStore({ name: "one-more" });
	});

	it("is run by operators, who write no entries", async () => {
		await using hub = await start();
		const { stores } = await hub.enrol("owner");
		const operator = hub.operator.stores;
		await stores.createStore({ name: "s", config: { admin: { minTrustLevel: TrustLevel.VERIFIED } } });
		await stores.set({ set: setOf("s", "k", 1) });
		expect((await operator.get({ store: "s", key: "k" })).entry?.key).toBe("k");
		expect((await operator.list({ store: "s" })).entries).toHaveLength(1);
		expect((await operator.listHistory({ store: "s", key: "k" })).versions).toHaveLength(1);
		await operator.updateStore({ name: "s", config: { description: "seen to" } });
		const refusals = [
			operator.createStore({ name: "t" }),
			operator.set({ set: setOf("s", "k", 2) }),
			operator.delete({ delete: { store: "s", key: "k" } }),
			operator.increment({ increment: { store: "s", key: "k", delta: 1n } }),
			operator.append({ append: { store: "s", key: "k", elementJson: "1" } }),
			operator.transact({ writes: [] }),
		];
		for (const call of refusals) expect(await failureOf(call)).toMatchObject({ reason: "CALLER_NOT_ALLOWED" });
		expect(await failureOf(operator.getStore({ name: "none" }))).toMatchObject({ reason: "STORE_NOT_FOUND" });
		await operator.deleteStore({ name: "s" });
		expect(await failureOf(stores.getStore({ name: "s" }))).toMatchObject({ reason: "STORE_NOT_FOUND" });
	});
});
