import { expect, it } from "vitest";
import type { StoreServiceWatchResponse } from "#gen/qirvo/hub/v1/store_watch_pb.js";
import { Feed } from "../harness/feed.ts";
import { type Clients, describeHubs, type TestHub } from "../harness/hub.ts";
import { Outbox } from "../harness/outbox.ts";
import { StoreFollower } from "../harness/store-follower.ts";
import { setOf } from "../harness/store-values.ts";

const GRANTS = { stores: [{ store: "s", read: true, write: true, create: true }] };

async function withStore(hub: TestHub): Promise<Clients> {
	const owner = await hub.enrol("owner", GRANTS);
	await owner.stores.createStore({ name: "s", config: { read: { plugins: ["*"] } } });
	return owner;
}

/** Writes entries through a pipeline, 500 at a time. */
async function write({ stores }: Clients, count: number, value: string): Promise<void> {
	const frames = new Outbox<{ operations: object[] }>();
	let sent = 0;
	const push = () => {
		const operations = Array.from({ length: 500 }, () => ({
			id: BigInt(sent),
			operation: { case: "set", value: setOf("s", `k${sent++ % 1000}`, value) } as const,
		}));
		frames.push({ operations });
	};
	let answered = 0;
	for await (const { frame } of stores.pipeline(frames)) {
		if (frame.case === "results") answered += frame.value.results.length;
		if (answered < sent) continue;
		if (sent < count) push();
		else frames.end();
	}
}

describeHubs("a watcher of a store that reads nothing for a while", (start) => {
	it("holds up nobody, and is told all of it in the end, several changes of a key as one", async () => {
		await using hub = await start();
		const owner = await withStore(hub);
		const stalled = (await hub.enrol("stalled", GRANTS)).stores.watch({ watches: [{ store: "s" }] });
		const frames = stalled[Symbol.asyncIterator]();
		const late = new StoreFollower();
		while (late.caughtUps === 0) late.take((await frames.next()).value);
		const healthy = new Feed<StoreServiceWatchResponse>(owner.stores.watch({ watches: [{ store: "s" }] }));
		await healthy.first("caughtUp");

		await write(owner, 40_000, "v".repeat(200));
		const follower = new StoreFollower();
		await healthy.when(() => {
			for (const response of healthy.frames.splice(0)) follower.take(response);
			return follower.changes === 40_000;
		});
		while (late.changes < 40_000) late.take((await frames.next()).value);
		expect(late.changes).toBe(40_000);
		expect(late.coalesced).toBeGreaterThan(10_000);
		expect(late.entries).toEqual(follower.entries);
		await frames.return?.();
	});

	it("hears how far it was as the hub stops", async () => {
		await using hub = await start();
		const owner = await withStore(hub);
		const feed = new Feed<StoreServiceWatchResponse>(owner.stores.watch({ watches: [{ watchId: "w", store: "s" }] }));
		await feed.first("caughtUp");
		const { result } = await owner.stores.set({ set: setOf("s", "k", 1) });
		await feed.first("batch");
		await hub.running.stop();
		await feed.ended;
		expect(feed.cases.slice(-2)).toEqual(["heartbeat", "draining"]);
		expect(feed.failure).toMatchObject({ code: "Unavailable", reason: "HUB_DRAINING" });
		const [told] = feed.all("heartbeat").at(-1)!.positions;
		expect(told?.watchId).toBe("w");
		expect(told!.position!.sequence).toBeGreaterThanOrEqual(result!.revision);
	});
});
