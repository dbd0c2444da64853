import { timestampMs } from "@bufbuild/protobuf/wkt";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ChangeCause } from "#gen/qirvo/hub/v1/entries_pb.js";
import { HubError } from "../../src/hub-error.ts";
import { FakeCall, operator, plugin } from "../harness/event-hub.ts";
import { refused } from "../harness/refused.ts";
import { backends, type OpenedState } from "../harness/state-backends.ts";
import { StoreWatchRig, saying } from "../harness/store-watch-rig.ts";

const SNAPSHOT = { case: "snapshot", value: true } as const;
const NEW = { case: "new", value: true } as const;
const since = (sequence: bigint, epoch = "s1") => ({ case: "after", value: { epoch, sequence } }) as const;

describe.each(backends)("watches of stores on $name", ({ open }) => {
	let opened: OpenedState;
	let rig: StoreWatchRig;
	beforeEach(async () => {
		opened = await open();
		rig = new StoreWatchRig(opened);
		rig.setStore("shop", "s1");
		rig.setStore("other", "s2");
	});
	afterEach(async () => {
		expect(rig.watches.size).toBe(0);
		await opened[Symbol.asyncDispose]();
	});

	test("what is there, caught up, then each change with what was before, by whom, when and why", async () => {
		await rig.write("s1", { a: "1", b: "2" }, "t-1");
		const reader = rig.open([{ watchId: "w", store: "shop" }]);
		expect((await reader.expect("ready")).heartbeatInterval?.seconds).toBe(15n);
		const snapshot = await reader.expect("batch");
		expect(snapshot.changes.map(saying)).toEqual(["a: - > 1", "b: - > 2"]);
		expect(snapshot.changes[0]).toMatchObject({ actor: "writer", cause: ChangeCause.SET, transactionId: "t-1" });
		expect(snapshot.changes[1]).toMatchObject({ revision: 2n, entry: { revision: 2n, createRevision: 2n } });
		const caughtUp = await reader.expect("caughtUp");
		expect(caughtUp).toMatchObject({ watchId: "w", position: { epoch: "s1", sequence: 2n } });
		await rig.write("s1", { a: "3", c: undefined });
		await rig.write("s1", { a: undefined }, "t-2");
		const batch = await reader.expect("batch");
		expect(batch.changes.map(saying)).toEqual(["a: 1 > 3", "c: - > -", "a: 3 > -"]);
		const [set, , deleted] = batch.changes;
		expect(set).toMatchObject({
			actor: "writer",
			cause: ChangeCause.SET,
			transactionId: "",
			entry: { key: "a", writer: "writer", revision: 3n, createRevision: 1n },
			previous: { key: "a", writer: "writer", revision: 1n, createRevision: 1n },
		});
		expect(deleted).toMatchObject({ actor: "deleter", cause: ChangeCause.DELETED, transactionId: "t-2", revision: 5n });
		expect(deleted!.previous).toMatchObject({ revision: 3n, createRevision: 1n });
		expect(timestampMs(deleted!.time!)).toBe(opened.clock.now());
		expect(batch.position).toMatchObject({ epoch: "s1", sequence: 5n });
		await reader.close();
	});

	test("an empty store is caught up with at once, and so is a watch of what comes", async () => {
		await rig.write("s2", { a: "1" });
		const reader = rig.open([
			{ watchId: "empty", store: "shop", start: SNAPSHOT },
			{ watchId: "new", store: "other", start: NEW },
		]);
		await reader.expect("ready");
		expect(await reader.expect("caughtUp")).toMatchObject({ watchId: "empty", position: { epoch: "s1" } });
		expect(await reader.expect("caughtUp")).toMatchObject({ watchId: "new", position: { epoch: "s2", sequence: 1n } });
		await rig.write("s2", { a: "2" });
		expect((await reader.expect("batch")).changes.map(saying)).toEqual(["a: 1 > 2"]);
		await reader.close();
	});

	test("a watch after a position tells what changed since, and then that it has caught up", async () => {
		await rig.write("s1", { a: "1" });
		await rig.write("s1", { a: "2", b: "1" });
		const reader = rig.open([
			{ watchId: "w", store: "shop", start: since(1n) },
			{ watchId: "inside", store: "shop", start: since(2n) },
			{ watchId: "end", store: "shop", start: since(3n) },
		]);
		await reader.expect("ready");
		expect((await reader.expect("batch")).changes.map(saying)).toEqual(["a: 1 > 2", "b: - > 1"]);
		expect((await reader.expect("batch")).changes.map(saying)).toEqual(["b: - > 1"]);
		expect(await reader.expect("caughtUp")).toMatchObject({ watchId: "end" });
		expect(await reader.expect("caughtUp")).toMatchObject({ watchId: "w", position: { sequence: 3n } });
		expect(await reader.expect("caughtUp")).toMatchObject({ watchId: "inside" });
		await reader.close();
	});

	test("a glob says which keys", async () => {
		await rig.write("s1", { "a/1": "1", "a/1/x": "1", "b/1": "1" });
		const reader = rig.open([{ watchId: "w", store: "shop", keyGlob: "a/*" }]);
		await reader.expect("ready");
		expect((await reader.expect("batch")).changes.map(saying)).toEqual(["a/1: - > 1"]);
		await reader.expect("caughtUp");
		await rig.write("s1", { "b/1": "2", "a/1/x": "2" });
		await rig.write("s1", { "b/1": "3", "a/2": "2" });
		expect((await reader.expect("batch")).changes.map(saying)).toEqual(["a/2: - > 2"]);
		await reader.close();
	});

	test("a snapshot of many pages is whole, with what is written in between", async () => {
		const values: Record<string, string> = {};
		for (let i = 0; i < 2500; i++) {
			values[`k${i}`] = "0";
			if (Object.keys(values).length === 500) {
				await rig.write("s1", values);
				for (const key in values) delete values[key];
			}
		}
		const reader = rig.open([{ watchId: "w", store: "shop" }]);
		await reader.expect("ready");
		const seen = new Map<string, string>();
		let round = 0;
		for (let frame = await reader.next(); frame?.case === "batch"; frame = await reader.next()) {
			for (const change of frame.value.changes) seen.set(change.key, saying(change));
			if (round++ < 5) await rig.write("s1", { k0: `${round}`, k999: `${round}`, [`new${round}`]: "x" });
		}
		expect(seen.size).toBe(2505);
		expect(seen.get("k0")).toBe("k0: 4 > 5");
		await reader.close();
	});

	test("what cannot be resumed ends that watch alone, with the oldest position", async () => {
		await rig.write("s1", { a: "1" });
		const reader = rig.open([
			{ watchId: "other life", store: "shop", start: since(1n, "s0") },
			{ watchId: "ahead", store: "shop", start: since(77n) },
			{ watchId: "far ahead", store: "shop", start: since(2n ** 64n - 1n) },
			{ watchId: "fine", store: "shop" },
		]);
		await reader.expect("ready");
		for (const watchId of ["other life", "ahead", "far ahead"]) {
			const error = { code: 11, reason: "POSITION_TRIMMED", metadata: { oldest: "0" } };
			expect(await reader.expect("ended")).toMatchObject({ watchId, error });
		}
		await reader.expect("batch");
		await reader.close();
	});

	test("a denied watch ends alone, as a call would, and the stream with the last", async () => {
		const reader = rig.open([
			{ watchId: "no", store: "missing" },
			{ watchId: "yes", store: "shop" },
		]);
		await reader.expect("ready");
		expect(await reader.expect("ended")).toMatchObject({
			watchId: "no",
			error: { code: 5, reason: "STORE_NOT_FOUND" },
		});
		expect((await reader.expect("caughtUp")).watchId).toBe("yes");
		rig.setStore("shop", undefined);
		const ended = await reader.expect("ended");
		expect(ended).toMatchObject({ watchId: "yes", error: { code: 5, reason: "STORE_NOT_FOUND" } });
		expect(ended.position).toBeUndefined();
		expect(await reader.next()).toBeUndefined();
	});

	test("a store that another of its name took the place of is gone", async () => {
		const reader = rig.open([{ watchId: "w", store: "shop" }]);
		await reader.expect("ready");
		await reader.expect("caughtUp");
		await rig.write("s1", { a: "1" });
		rig.setStore("shop", "s9");
		expect((await reader.expect("ended")).error?.reason).toBe("STORE_NOT_FOUND");
		expect(await reader.next()).toBeUndefined();
	});

	test.each([
		["the store's lists", (r: StoreWatchRig) => r.setStore("shop", "s1")],
		["the plugin's registration", (r: StoreWatchRig) => r.changePlugin("reader")],
		["the plugin's grants", (r: StoreWatchRig) => r.recheckStreams()],
	])("whoever is no longer admitted after a change of %s is told so, and nothing more", async (_, change) => {
		const reader = rig.open([{ watchId: "w", store: "shop" }]);
		const stays = rig.open([{ watchId: "w", store: "shop" }], plugin("other"));
		const root = rig.open([{ watchId: "w", store: "shop" }], operator);
		for (const each of [reader, stays, root]) {
			await each.expect("ready");
			await each.expect("caughtUp");
		}
		change(rig);
		rig.refused.add("reader");
		change(rig);
		await rig.write("s1", { a: "1" });
		expect(await reader.expect("ended")).toMatchObject({ watchId: "w", error: { reason: "PERMISSION_REVOKED" } });
		expect(await reader.next()).toBeUndefined();
		expect((await stays.expect("batch")).changes).toHaveLength(1);
		expect((await root.expect("batch")).changes).toHaveLength(1);
		expect(rig.audited.map(({ event, target, reason }) => [event, target, reason])).toEqual([
			["stream_revoked", "plugin:reader", "permission_revoked"],
		]);
		await stays.close();
		await root.close();
	});

	test("as the hub stops, the stream says how far its watches are, and that it is draining", async () => {
		const reader = rig.open([
			{ watchId: "w", store: "shop" },
			{ watchId: "late", store: "shop", start: NEW },
		]);
		await reader.expect("ready");
		await reader.expect("caughtUp");
		await reader.expect("caughtUp");
		await rig.write("s2", { a: "1" });
		reader.call.controller.abort(new HubError("HUB_DRAINING", "the hub is shutting down"));
		await rig.write("s1", { a: "1" });
		expect((await reader.expect("heartbeat")).positions.map(({ position }) => position?.sequence)).toEqual([1n, 1n]);
		await reader.expect("draining");
		await expect(reader.next()).rejects.toThrow(refused("HUB_DRAINING"));
	});

	test("a stream that begins as the hub stops ends at once", async () => {
		const call = new FakeCall(operator);
		call.controller.abort(new HubError("HUB_DRAINING", "the hub is shutting down"));
		const reader = rig.open([{ watchId: "w", store: "shop" }], operator, call);
		await reader.expect("ready");
		expect((await reader.expect("heartbeat")).positions).toEqual([]);
		await reader.expect("draining");
		await expect(reader.next()).rejects.toThrow(refused("HUB_DRAINING"));
	});

	test("what is malformed refuses the call", () => {
		const watch = { watchId: "w", store: "shop" };
		expect(() => rig.open([])).toThrow(refused("INVALID_FIELD", { field: "watches" }));
		const many = Array.from({ length: 65 }, (__, i) => ({ ...watch, watchId: `${i}` }));
		expect(() => rig.open(many)).toThrow(refused("INVALID_FIELD", { field: "watches" }));
		const fields: [object, string][] = [
			[{ ...watch }, "watch_id"],
			[{ store: "shop", watchId: "w".repeat(129) }, "watch_id"],
			[{ store: "", watchId: "x" }, "store"],
			[{ store: "shop", watchId: "x", keyGlob: "\\" }, "key_glob"],
			[{ store: "shop", watchId: "x", start: { case: "new", value: false } }, "new"],
			[{ store: "shop", watchId: "x", start: { case: "snapshot", value: false } }, "snapshot"],
		];
		for (const [second, field] of fields) {
			expect(() => rig.open([watch, second])).toThrow(refused("INVALID_FIELD", { field: `watches[1].${field}` }));
		}
	});
});
