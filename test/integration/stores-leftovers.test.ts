import { setImmediate } from "node:timers/promises";
import { expect, test } from "vitest";
import { type KvStore, StorageError } from "../../src/state/kv-store.ts";
import { wrapKv } from "../harness/kv-wrapper.ts";
import { StoreWorld } from "../harness/store-world.ts";

const KEYS = 2500;
const VERSIONS = 8;
/** More failures than it takes to refuse everything that waits. */
const MAX_FAILURES = 20;

test("writes that wait while so much is left over that it goes first are refused where the storage is full", async () => {
	let room: "left" | "none" | "made" = "left";
	let failures = 0;
	const wrap = (kv: KvStore): KvStore =>
		wrapKv(kv, {
			commit: async (commit) => {
				const versions = commit.writes.filter(({ key }) => key.startsWith("store/version/"));
				if (room === "left" && versions.length > 500 && versions.every((write) => write.delete)) room = "none";
				if (room !== "none" || ++failures > MAX_FAILURES) return await kv.commit(commit);
				await setImmediate();
				throw new StorageError("full", "not-written", "no room");
			},
		});
	const world = await StoreWorld.open(undefined, { wrap });
	const store = await world.create("s", { history: 2 });
	const written: Promise<unknown>[] = [];
	for (let version = 0; version < VERSIONS; version++) {
		for (let key = 0; key < KEYS; key++) written.push(world.set(store, `k-${key}`, version));
	}
	const settled = await Promise.allSettled(written);
	expect(room).toBe("none");
	expect(settled.filter(({ status }) => status === "rejected").length).toBeGreaterThan(0);
	expect(failures).toBeLessThan(MAX_FAILURES);
	room = "made";
	await world.set(store, "k-0", "again");
	await world[Symbol.asyncDispose]();
});
