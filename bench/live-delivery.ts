// P3: one publisher, one server and one subscriber, a process each; 200 bytes of JSON an event. The rate is the
// subscriber's, from the first event of a round to its last; none may be missing or out of order. The hub's subscriber is
// the SDK's; its publisher sends batches by the generated client, or, where the row says so, single events by the SDK.
import { type Benchmark, compare, Worker } from "./bench.ts";
import { HubProcess } from "./hub-process.ts";
import { NATS_MISSING, NatsProcess } from "./nats-process.ts";
import { type Pace, Side } from "./side.ts";

const DURABILITY = "flushed before delivery / at most once, not stored";
const HUB_PACES: readonly Pace[] = [8, 16].map((window) => ({ batch: 500, window }));
const SDK_PACES: readonly Pace[] = [4096, 16_384].map((window) => ({ batch: 1, window }));
/** The client's `flush` is core NATS's only acknowledgement: that the server has read what was sent. */
const NATS_PACES: readonly Pace[] = [1000, 16_000].map((batch) => ({ batch, window: 2 }));

async function hubSide(kind: "batch" | "sdk", round: number): Promise<Side> {
	const hub = await HubProcess.start("embedded");
	const publisher = Worker.node(`workers/${kind}-publisher.ts`, [hub.url, await hub.enrol("bench-publisher")]);
	const token = await hub.enrol("bench-subscriber");
	return new Side(hub, publisher, Worker.node("workers/sdk-subscriber.ts", [hub.url, token, String(round)]));
}

async function natsSide(round: number): Promise<Side> {
	const server = await NatsProcess.start();
	const publisher = Worker.node("workers/nats-publisher.ts", [server.address]);
	return new Side(server, publisher, Worker.node("workers/nats-subscriber.ts", [server.address, String(round)]));
}

export const benchmark: Benchmark = async ({ quick }) => {
	if (NATS_MISSING) return [{ id: "P3", peer: "core NATS", skipped: NATS_MISSING }];
	const hubRound = quick ? 20_000 : 100_000;
	const natsRound = quick ? 50_000 : 250_000;
	await using nats = await natsSide(natsRound);
	await using hub = await hubSide("batch", hubRound);
	await using sdk = await hubSide("sdk", hubRound);
	await nats.warmUp(natsRound, NATS_PACES);
	await hub.warmUp(hubRound, HUB_PACES);
	await sdk.warmUp(hubRound, SDK_PACES);
	for (let round = 0; round < (quick ? 3 : 7); round++) {
		await hub.measure(hubRound);
		await nats.measure(natsRound);
		await sdk.measure(hubRound);
	}
	return [
		compare("P3", "core NATS", nats.rates, hub.rates, DURABILITY, { reach: ">= 0.5" }),
		compare("P3-sdk", "core NATS; hub by its SDK", nats.rates, sdk.rates, DURABILITY),
	];
};
