import http2 from "node:http2";
import { create, toBinary } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { StoreServiceGetRequestSchema, StoreServiceSetRequestSchema } from "#gen/qirvo/hub/v1/entries_pb.js";
import { describeHubs } from "../harness/hub.ts";
import { grpcFrame, rawCallOn } from "../harness/raw-grpc.ts";
import { setOf } from "../harness/store-values.ts";

const CALLS = 1000;
const ROUNDS = 5;

/** A read and a write of an entry. */
const REQUESTS = {
	Get: (store: string) =>
		toBinary(StoreServiceGetRequestSchema, create(StoreServiceGetRequestSchema, { store, key: "k" })),
	Set: (store: string) =>
		toBinary(StoreServiceSetRequestSchema, create(StoreServiceSetRequestSchema, { set: setOf(store, "k", "v") })),
};

describeHubs("the time that a refusal takes", (start) => {
	it.each(["Get", "Set"] as const)("does not tell whether the store exists (%s)", async (method) => {
		await using hub = await start();
		const owner = await hub.enrol("owner");
		const read = { plugins: Array.from({ length: 256 }, (_, index) => `friend-${index}`) };
		await owner.stores.createStore({ name: "hidden", config: { read, write: read, admin: read } });
		await owner.stores.set({ set: setOf("hidden", "k", "x".repeat(10_000)) });
		const { token } = await hub.enrol("spy");
		const session = http2.connect(hub.url);
		session.on("error", () => {});
		const requests = [[grpcFrame(REQUESTS[method]("hidden"))], [grpcFrame(REQUESTS[method]("absent"))]];
		const headers = { authorization: `Bearer ${token}` };
		const timed = async (which: number): Promise<number> => {
			const from = performance.now();
			const { grpcStatus } = await rawCallOn(session, {
				path: `/qirvo.hub.v1.StoreService/${method}`,
				headers,
				body: requests[which]!,
			});
			const took = performance.now() - from;
			expect(grpcStatus).toBe("5");
			return took;
		};
		// One of each in turns, the other first every second time: whatever else the machine does, it does to both. A round in
		// which it did not may be repeated, but a hub that tells would tell in every round.
		let ratio = 0;
		for (let round = 0; round < ROUNDS; round++) {
			const times: [number[], number[]] = [[], []];
			for (let call = 0; call < CALLS; call++) {
				const first = call % 2;
				times[first as 0 | 1].push(await timed(first));
				times[(1 - first) as 0 | 1].push(await timed(1 - first));
			}
			ratio = median(times[0]) / median(times[1]);
			if (ratio > 0.8 && ratio < 1.2) break;
		}
		session.destroy();
		expect(ratio).toBeGreaterThan(0.8);
		expect(ratio).toBeLessThan(1.2);
	});
});

function median(values: number[]): number {
	return values.sort((a, b) => a - b)[values.length >> 1]!;
}
