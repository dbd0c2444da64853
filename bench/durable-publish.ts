// P2: one publisher, 200 bytes of JSON an event, each event acknowledged. Server and publisher are a process each, and
// each side gets the pace at which it is fastest. The hub's publisher sends batches by the generated client, or, where the
// row says so, single events by the SDK.
import { type Benchmark, type BenchResult, compare, Worker } from "./bench.ts";
import { HubProcess } from "./hub-process.ts";
import { NATS_MISSING, NatsProcess } from "./nats-process.ts";
import { type Pace, Side } from "./side.ts";

const HUB_PACES: readonly Pace[] = [4, 8, 16].map((window) => ({ batch: 500, window }));
const SDK_PACES: readonly Pace[] = [4096, 16_384].map((window) => ({ batch: 1, window }));
const SINGLE_PACES: readonly Pace[] = [256, 1024, 4096].map((window) => ({ batch: 1, window }));
/** The server takes at most 1,000 messages a batch and 50 open batches. */
const ATOMIC_PACES: readonly Pace[] = [2, 8, 24].map((window) => ({ batch: 500, window }));

/** `share`: of the hub's messages a round. A flush for each message makes fewer of them tell as much. */
const PEERS = [
	{ id: "P2", peer: "JetStream, pipelined", paces: SINGLE_PACES, syncAlways: false, share: 1 },
	{ id: "P2-atomic", peer: "JetStream, atomic batches", paces: ATOMIC_PACES, syncAlways: false, share: 1 },
	{ id: "P2-sync", peer: "JetStream, sync always", paces: SINGLE_PACES, syncAlways: true, share: 0.1 },
	{ id: "P2-sync-atomic", peer: "JetStream, sync always, atomic", paces: ATOMIC_PACES, syncAlways: true, share: 1 },
] as const;

async function hubSide(publisher: "batch" | "sdk"): Promise<Side> {
	const hub = await HubProcess.start("embedded");
	const token = await hub.enrol("bench-publisher");
	return new Side(hub, Worker.node(`workers/${publisher}-publisher.ts`, [hub.url, token]));
}

async function jetStreamSide(syncAlways: boolean): Promise<Side> {
	const server = await NatsProcess.start({ syncAlways });
	return new Side(server, Worker.node("workers/jetstream-publisher.ts", [server.address]));
}

export const benchmark: Benchmark = async ({ quick }) => {
	if (NATS_MISSING) return [{ id: "P2", peer: "NATS JetStream", skipped: NATS_MISSING }];
	const count = quick ? 10_000 : 100_000;
	const rounds = quick ? 3 : 5;
	await using hub = await hubSide("batch");
	await using sdk = await hubSide("sdk");
	await hub.warmUp(count / 2, HUB_PACES);
	await sdk.warmUp(count / 2, SDK_PACES);
	const results: BenchResult[] = [];
	for (const { id, peer, paces, syncAlways, share } of PEERS) {
		await using other = await jetStreamSide(syncAlways);
		await other.warmUp((count * share) / 4, paces);
		hub.rates.length = 0;
		sdk.rates.length = 0;
		for (let round = 0; round < rounds; round++) {
			await hub.measure(count);
			await other.measure(count * share);
			if (id === "P2") await sdk.measure(count);
		}
		const durability = `flushed / ${syncAlways ? "flushed" : "file cache, flushed every 2 min"}`;
		const reach = id === "P2" ? ">= 8" : "";
		results.push(compare(id, peer, other.rates, hub.rates, durability, { reach }));
		if (sdk.rates.length > 0)
			results.push(compare("P2-sdk", `${peer}; hub by its SDK`, other.rates, sdk.rates, durability));
	}
	return results;
};
