import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { EntryChange } from "#gen/qirvo/hub/v1/store_watch_pb.js";
import { HEARTBEAT_MS } from "../../src/streams/heartbeat.ts";
import { backends, type OpenedState } from "../harness/state-backends.ts";
import { StoreWatchRig, saying, type WatchReader } from "../harness/store-watch-rig.ts";

const MIB = 1024 * 1024;
const NEW = { case: "new", value: true } as const;

describe.each(backends)("slow and busy watches of stores on $name", ({ open }) => {
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

	/** Everything that waits, as far as it comes before the watch is idle. */
	const drain = async (reader: WatchReader) => {
		const batches: EntryChange[][] = [];
		while (await reader.hasNext()) batches.push((await reader.expect("batch")).changes);
		return batches;
	};
	const writeMany = async (storeId: string, count: number, keyOf: (index: number) => string, perCommit = 100) => {
		for (let first = 0; first < count; first += perCommit) {
			const indexes = Array.from({ length: perCommit }, (_, i) => first + i);
			await rig.write(storeId, Object.fromEntries(indexes.map((i) => [keyOf(i), `${i}`])));
		}
	};

	test("a reader that is a little late is told every change on its own", async () => {
		const reader = rig.open([{ watchId: "w", store: "shop", start: NEW }]);
		await reader.expect("ready");
		await reader.expect("caughtUp");
		await writeMany("s1", 3000, (i) => `k${i % 100}`);
		const changes = (await drain(reader)).flat();
		expect(changes).toHaveLength(3000);
		expect(changes.every((change) => change.coalesced === 0)).toBe(true);
		await reader.close();
	});

	test("a reader that is far behind is told several changes of a key as one, and how many they were", async () => {
		const reader = rig.open([{ watchId: "w", store: "shop", start: NEW }]);
		await reader.expect("ready");
		await reader.expect("caughtUp");
		await rig.write("s1", { k0: "before" });
		await writeMany("s1", 9000, (i) => `k${i % 300}`);
		const batches = await drain(reader);
		expect(batches.length).toBeLessThan(9);
		const told = new Map<string, { changes: number; entry: bigint }>();
		let last = 0n;
		for (const change of batches.flat()) {
			const known = told.get(change.key);
			expect(change.previous?.revision).toBe(known?.entry);
			told.set(change.key, { changes: (known?.changes ?? 0) + 1 + change.coalesced, entry: change.revision });
			expect(change.revision).toBeGreaterThan(last);
			last = change.revision;
		}
		expect(told.get("k0")!.changes).toBe(31);
		expect([...told.values()].reduce((sum, { changes }) => sum + changes, 0)).toBe(9001);
		await reader.close();
	});

	test("a watch that the window has overtaken ends alone; one of which nothing was let go lives on", async () => {
		const reader = rig.open([
			{ watchId: "busy", store: "shop", start: NEW },
			{ watchId: "quiet", store: "other", start: NEW },
		]);
		await reader.expect("ready");
		await reader.expect("caughtUp");
		await reader.expect("caughtUp");
		const value = "v".repeat(1_000_000);
		for (let round = 0; round < 70; round++) await rig.write("s1", { a: value, b: value });
		await rig.write("s2", { a: "1" });
		expect(await reader.expect("ended")).toMatchObject({
			watchId: "busy",
			error: { code: 11, reason: "POSITION_TRIMMED", metadata: { oldest: expect.stringMatching(/^\d+$/) } },
		});
		expect((await reader.expect("batch")).changes.map(saying)).toEqual(["a: - > 1"]);
		await reader.close();
	});

	test("frames have about 1 MiB, and one change at least", async () => {
		const reader = rig.open([{ watchId: "w", store: "shop", start: NEW }]);
		await reader.expect("ready");
		await reader.expect("caughtUp");
		for (let round = 0; round < 6; round++) await rig.write("s1", { a: `"${"v".repeat(MIB - 100)}"` });
		for (let round = 0; round < 8; round++) await rig.write("s1", { [`b${round}`]: `"${"v".repeat(MIB / 4)}"` });
		const counts = (await drain(reader)).map((batch) => batch.length);
		expect(counts).toEqual([1, 1, 1, 1, 1, 1, 3, 3, 2]);
		await reader.close();
	});

	test("a commit that is larger than a frame is told in parts, and may be resumed between them", async () => {
		const reader = rig.open([{ watchId: "w", store: "shop", start: NEW }]);
		await reader.expect("ready");
		await reader.expect("caughtUp");
		const value = `"${"v".repeat(MIB / 4)}"`;
		await rig.write("s1", { a: value, b: value, c: value, d: value, e: value });
		const first = await reader.expect("batch");
		expect(first.changes.map((change) => change.key)).toEqual(["a", "b", "c"]);
		await reader.close();
		const again = rig.open([{ watchId: "w", store: "shop", start: { case: "after", value: first.position! } }]);
		await again.expect("ready");
		expect((await again.expect("batch")).changes.map((change) => change.key)).toEqual(["d", "e"]);
		await again.close();
	});

	test("an idle stream says how far its watches are; a busy one too, for those of its watches that are idle", async () => {
		const reader = rig.open([
			{ watchId: "busy", store: "shop", start: NEW },
			{ watchId: "idle", store: "other", start: NEW },
		]);
		await reader.expect("ready");
		await reader.expect("caughtUp");
		await reader.expect("caughtUp");
		await writeMany("s1", 2000, (i) => `k${i}`, 500);
		expect((await reader.expect("batch")).changes).toHaveLength(1000);
		await opened.clock.advance(HEARTBEAT_MS);
		const { positions } = await reader.expect("heartbeat");
		expect(positions.map(({ watchId, position }) => [watchId, position?.epoch, position?.sequence])).toEqual([
			["busy", "s1", 1000n],
			["idle", "s2", 2000n],
		]);
		expect((await reader.expect("batch")).changes).toHaveLength(1000);
		// It was due all the time.
		await reader.expect("heartbeat");
		expect(await reader.hasNext()).toBe(false);
		await opened.clock.advance(HEARTBEAT_MS);
		expect((await reader.expect("heartbeat")).positions.map(({ position }) => position?.sequence)).toEqual([
			2000n,
			2000n,
		]);
		await reader.close();
	});

	test("a watch that finds nothing in much that changed gives way, and finds what comes after it", async () => {
		const reader = rig.open([
			{ watchId: "rare", store: "shop", keyGlob: "rare", start: NEW },
			{ watchId: "other", store: "other", start: NEW },
		]);
		await reader.expect("ready");
		await reader.expect("caughtUp");
		await reader.expect("caughtUp");
		await writeMany("s1", 25_000, (i) => `k${i}`, 1000);
		await rig.write("s1", { rare: "1" });
		await rig.write("s2", { a: "1" });
		expect((await reader.expect("batch")).watchId).toBe("other");
		expect(await reader.hasNext()).toBe(false);
		for (let turn = 0; turn < 5; turn++) await opened.clock.advance(1);
		const batch = await reader.expect("batch");
		expect(batch.changes.map(saying)).toEqual(["rare: - > 1"]);
		expect(batch.position?.sequence).toBe(25_002n);
		await reader.close();
	});

	test("a change that many tell is encoded once", async () => {
		const readers = Array.from({ length: 5 }, () => rig.open([{ watchId: "w", store: "shop", start: NEW }]));
		let encoded = 0;
		const encode = rig.changes.encode.bind(rig.changes);
		const seen = new Set<Uint8Array>();
		rig.changes.encode = (told, keyOffset) => {
			const bytes = encode(told, keyOffset);
			if (!seen.has(bytes)) encoded++;
			seen.add(bytes);
			return bytes;
		};
		for (const reader of readers) {
			await reader.expect("ready");
			await reader.expect("caughtUp");
		}
		await writeMany("s1", 200, (i) => `k${i}`);
		for (const reader of readers) expect((await reader.expect("batch")).changes).toHaveLength(200);
		expect(encoded).toBe(200);
		for (const reader of readers) await reader.close();
	});
});
