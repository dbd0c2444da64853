import { Code } from "@connectrpc/connect";
import { expect, it } from "vitest";
import { ChangeCause } from "#gen/qirvo/hub/v1/entries_pb.js";
import { TrustLevel } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import type { EntryChange, StoreServiceWatchResponse, WatchEnded } from "#gen/qirvo/hub/v1/store_watch_pb.js";
import { failureOf } from "../harness/failure.ts";
import { Feed } from "../harness/feed.ts";
import { type Clients, describeHubs, manifestOf, type TestHub } from "../harness/hub.ts";
import { parsed, setOf } from "../harness/store-values.ts";

const grant = (rights: object, store = "*") => ({ stores: [{ store, ...rights }] });
const OWNER = grant({ create: true });
const READ = grant({ read: true });

/** A stream of watches, of which one stays open whatever becomes of the others, so that the stream does. */
function watching({ stores }: Clients, watches: readonly object[]) {
	const stop = new AbortController();
	const feed = new Feed<StoreServiceWatchResponse>(stores.watch({ watches: [...watches] }, { signal: stop.signal }));
	return {
		feed,
		/** The changes of one watch so far. */
		changes: (watchId = "w"): EntryChange[] =>
			feed.all("batch").flatMap((batch) => (batch.watchId === watchId ? batch.changes : [])),
		caughtUp: (count = 1) => feed.when(() => feed.all("caughtUp").length >= count),
		async ended(watchId = "w"): Promise<WatchEnded> {
			const found = () => feed.all("ended").find((ended) => ended.watchId === watchId);
			await feed.when(() => found() !== undefined);
			return found()!;
		},
		async [Symbol.asyncDispose]() {
			stop.abort();
			await feed.ended;
		},
	};
}

async function withStore(hub: TestHub, config: object = {}): Promise<Clients> {
	const owner = await hub.enrol("owner", OWNER);
	await owner.stores.createStore({ name: "s", config });
	return owner;
}

/** How long the work takes until the watch has ended with this reason, in milliseconds. */
async function endsWith(
	watch: { ended(): Promise<WatchEnded> },
	reason: string,
	work: () => Promise<unknown>,
): Promise<void> {
	const started = performance.now();
	await work();
	const { error, position } = await watch.ended();
	expect(error?.reason).toBe(reason);
	expect(position).toBeUndefined();
	expect(performance.now() - started).toBeLessThan(1000);
}

describeHubs("a watch of a store", (start) => {
	it.each([true, false])("tells what is there and what is done with it (persistent: %s)", async (persistent) => {
		await using hub = await start();
		const { stores } = await withStore(hub, { persistent });
		await stores.set({ set: setOf("s", "a", 1) });
		await using watch = watching({ stores } as Clients, [{ watchId: "w", store: "s" }]);
		await watch.caughtUp();
		expect(watch.feed.cases.slice(0, 3)).toEqual(["ready", "batch", "caughtUp"]);
		await stores.set({ set: setOf("s", "a", 2) });
		await stores.increment({ increment: { store: "s", key: "n", delta: 5n } });
		const { transactionId } = await stores.transact({
			writes: [
				{ write: { case: "set", value: setOf("s", "b", 1) } },
				{ write: { case: "delete", value: { store: "s", key: "a" } } },
			],
		});
		await stores.set({ set: setOf("s", "short", 1, { ttl: { seconds: 0n, nanos: 30_000_000 } }) });
		await watch.feed.when(() => watch.changes().length >= 7);
		const told = watch
			.changes()
			.map(({ key, previous, entry, cause, actor }) => [
				key,
				parsed(previous?.value),
				parsed(entry?.value),
				ChangeCause[cause],
				actor,
			]);
		expect(told).toEqual([
			["a", undefined, 1, "SET", "owner"],
			["a", 1, 2, "SET", "owner"],
			["n", undefined, 5, "SET", "owner"],
			["b", undefined, 1, "SET", "owner"],
			["a", 2, undefined, "DELETED", "owner"],
			["short", undefined, 1, "SET", "owner"],
			["short", 1, undefined, "EXPIRED", ""],
		]);
		expect(watch.changes().map((change) => change.transactionId)).toEqual([
			"",
			"",
			"",
			transactionId,
			transactionId,
			"",
			"",
		]);
		const { entry } = await stores.get({ store: "s", key: "n" });
		expect(watch.changes()[2]!.entry).toEqual(entry);
	});

	it("tells that an entry ended with the lease of its writer's instance", async () => {
		await using hub = await start();
		const owner = await withStore(hub, { read: { plugins: ["reader"] } });
		const { instanceId } = await owner.plugins.register({ manifestJson: manifestOf("owner") });
		await owner.stores.set({ set: setOf("s", "here", true, { instanceId }) });
		const reader = await hub.enrol("reader", READ);
		await using watch = watching(reader, [{ watchId: "w", store: "s" }]);
		await watch.caughtUp();
		await hub.operator.plugins.unregister({ pluginId: "owner" });
		await watch.feed.when(() => watch.changes().length >= 2);
		expect(watch.changes()[1]).toMatchObject({ key: "here", cause: ChangeCause.LEASE_ENDED, actor: "" });
	});

	it("makes the pages of a list exact from the position of the first", async () => {
		await using hub = await start();
		const { stores } = await withStore(hub);
		for (let i = 0; i < 30; i++) await stores.set({ set: setOf("s", `k${i % 10}`, i) });
		const known = new Map<string, unknown>();
		const first = await stores.list({ store: "s", pageSize: 4 });
		let page = first;
		for (let i = 0; ; i++) {
			for (const { key, value } of page.entries) known.set(key, parsed(value));
			await stores.set({ set: setOf("s", `k${i}`, "changed") });
			await stores.delete({ delete: { store: "s", key: `k${9 - i}` } });
			if (page.nextPageToken === "") break;
			page = await stores.list({ store: "s", pageSize: 4, pageToken: page.nextPageToken });
		}
		const since = { case: "after", value: first.position! } as const;
		await using watch = watching({ stores } as Clients, [{ watchId: "w", store: "s", start: since }]);
		await watch.caughtUp();
		for (const { key, entry } of watch.changes()) {
			if (entry === undefined) known.delete(key);
			else known.set(key, parsed(entry.value));
		}
		const all = await stores.list({ store: "s" });
		expect(new Map([...known].sort())).toEqual(new Map(all.entries.map(({ key, value }) => [key, parsed(value)])));
	});

	it("that is denied ends alone, in the words of a call that is denied, whether there is such a store or not", async () => {
		await using hub = await start();
		const owner = await withStore(hub);
		await owner.stores.createStore({ name: "mine", config: { read: { plugins: ["reader"] } } });
		const reader = await hub.enrol("reader", grant({ read: true }, "mine"));
		const listed = await hub.enrol("listed", READ);
		for (const caller of [reader, listed]) {
			for (const store of ["s", "missing"]) {
				const failure = await failureOf(caller.stores.get({ store, key: "k" }));
				await using watch = watching(caller, [
					{ watchId: "w", store },
					{ watchId: "mine", store: "mine" },
				]);
				const { error, position } = await watch.ended();
				expect({ ...error, code: Code[error!.code] }).toMatchObject({
					code: failure.code,
					reason: failure.reason,
					metadata: failure.metadata,
				});
				expect(position).toBeUndefined();
				if (caller === reader) await watch.caughtUp();
			}
		}
	});

	it("ends within a second when its store is deleted, also where one of its name is made at once", async () => {
		await using hub = await start();
		const owner = await withStore(hub);
		await owner.stores.createStore({ name: "other" });
		await owner.stores.set({ set: setOf("s", "k", 1) });
		await using watch = watching(owner, [
			{ watchId: "w", store: "s" },
			{ watchId: "other", store: "other" },
		]);
		await watch.caughtUp(2);
		await endsWith(watch, "STORE_NOT_FOUND", async () => {
			await owner.stores.deleteStore({ name: "s" });
			await owner.stores.createStore({ name: "s" });
		});
		await owner.stores.set({ set: setOf("s", "k", 2) });
		await owner.stores.set({ set: setOf("other", "k", 2) });
		await watch.feed.when(() => watch.changes("other").length === 1);
		expect(watch.changes()).toHaveLength(1);
		await endsStream(watch, () => owner.stores.deleteStore({ name: "other" }));
	});

	it("ends within a second when the lists, the grants, the trust or the categories no longer admit its reader", async () => {
		await using hub = await start();
		const { admin } = hub.operator;
		const read = { plugins: ["reader"], minTrustLevel: TrustLevel.BASIC };
		const owner = await withStore(hub, { read });
		const reader = await hub.enrol("reader", READ);
		const register = (categories: string[]) =>
			reader.plugins.register({ manifestJson: manifestOf("reader"), capabilities: { categories } });
		const admit = async () => {
			await owner.stores.updateStore({ name: "s", config: { read } });
			await admin.setPermissions({ pluginId: "reader", permissions: READ });
			await admin.setTrustLevel({ pluginId: "reader", trustLevel: TrustLevel.TRUSTED });
		};
		const losses: Record<string, () => Promise<unknown>> = {
			lists: () => owner.stores.updateStore({ name: "s", config: {} }),
			owner: () => owner.stores.updateStore({ name: "s", config: { read: { plugins: ["nobody"] } } }),
			grants: () => admin.setPermissions({ pluginId: "reader", permissions: grant({ write: true }) }),
			trust: () => admin.setTrustLevel({ pluginId: "reader", trustLevel: TrustLevel.UNTRUSTED }),
			categories: () => register([]),
		};
		for (const [what, lose] of Object.entries(losses)) {
			await admit();
			if (what === "categories") {
				await register(["analytics"]);
				await owner.stores.updateStore({ name: "s", config: { read: { categories: ["analytics"] } } });
			}
			await using watch = watching(reader, [{ watchId: "w", store: "s" }]);
			await watch.caughtUp();
			await endsWith(watch, "PERMISSION_REVOKED", lose);
			await owner.stores.set({ set: setOf("s", what, 1) });
			await watch.feed.ended;
			expect(watch.changes().map((change) => change.key)).not.toContain(what);
			expect(watch.feed.failure).toBeUndefined();
		}
	});

	it("ends with its stream when the credential is revoked", async () => {
		await using hub = await start();
		const owner = await withStore(hub);
		await using watch = watching(owner, [{ watchId: "w", store: "s" }]);
		await watch.caughtUp();
		await hub.operator.admin.revokeCredential({ target: { case: "pluginId", value: "owner" } });
		await watch.feed.ended;
		expect(watch.feed.cases.at(-1)).toBe("revoked");
		expect(watch.feed.failure?.reason).toBe("CREDENTIAL_REVOKED");
	});

	it("is refused as a whole where it is malformed", async () => {
		await using hub = await start();
		const owner = await withStore(hub);
		const first = async (watches: object[]) => {
			for await (const _ of owner.stores.watch({ watches })) return;
		};
		expect(await failureOf(first([]))).toMatchObject({ code: "InvalidArgument", metadata: { field: "watches" } });
		const bad = [{ store: "s" }, { watchId: "x", store: "s", keyGlob: "\\" }];
		expect(await failureOf(first(bad))).toMatchObject({
			code: "InvalidArgument",
			metadata: { field: "watches[1].key_glob" },
		});
	});
});

/** The stream ends, and well, with the last of its watches. */
async function endsStream(watch: { readonly feed: Feed<StoreServiceWatchResponse> }, work: () => Promise<unknown>) {
	await work();
	await watch.feed.ended;
	expect(watch.feed.cases.at(-1)).toBe("ended");
	expect(watch.feed.failure).toBeUndefined();
}
