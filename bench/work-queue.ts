// WQ: one sender of durable messages and one recipient that acknowledges each, beside a JetStream work queue; 200 bytes a
// message. Sender, server and recipient are a process each. As many messages may be unanswered at the sender as
// unacknowledged at the recipient, the same on both sides. The rate is the recipient's, from the first message of a round
// until every acknowledgement of it has taken effect; none may be missing, repeated or out of order. The hub recognises a
// repeat of a message for two minutes; JetStream does so where its messages have ids.
import { type Benchmark, type BenchResult, compare, Worker } from "./bench.ts";
import { HubProcess } from "./hub-process.ts";
import { NATS_MISSING, NatsProcess } from "./nats-process.ts";
import { Side } from "./side.ts";

const PEERS = [
	{ id: "WQ", peer: "JetStream work queue", syncAlways: false, ids: false, share: 0.5 },
	{ id: "WQ-ids", peer: "JetStream work queue, message ids", syncAlways: false, ids: true, share: 0.5 },
	{ id: "WQ-sync", peer: "JetStream work queue, sync always", syncAlways: true, ids: false, share: 0.05 },
] as const;
const WINDOW = 4096;
const REACH = 3;

async function hubSide(round: number): Promise<Side> {
	const hub = await HubProcess.start("embedded");
	const recipient = [hub.url, await hub.enrol("bench-recipient"), "bench-recipient", String(round), String(WINDOW)];
	const sender = [hub.url, await hub.enrol("bench-sender"), "bench-sender", "bench-recipient"];
	return new Side(
		hub,
		Worker.node("workers/sdk-sender.ts", sender),
		Worker.node("workers/sdk-recipient.ts", recipient),
	);
}

async function jetStreamSide(syncAlways: boolean, ids: boolean, round: number): Promise<Side> {
	const server = await NatsProcess.start({ syncAlways });
	const recipient = [server.address, String(round), String(WINDOW)];
	const sender = Worker.node("workers/jetstream-sender.ts", [server.address, ids ? "ids" : ""]);
	return new Side(server, sender, Worker.node("workers/jetstream-recipient.ts", recipient));
}

export const benchmark: Benchmark = async ({ quick }) => {
	if (NATS_MISSING) return [{ id: "WQ", peer: "JetStream work queue", skipped: NATS_MISSING }];
	const count = quick ? 10_000 : 50_000;
	const pace = [{ batch: 1, window: WINDOW }];
	await using hub = await hubSide(count);
	await hub.warmUp(count, pace);
	const results: BenchResult[] = [];
	for (const { id, peer, syncAlways, ids, share } of PEERS) {
		await using other = await jetStreamSide(syncAlways, ids, count * share);
		await other.warmUp(count * share, pace);
		hub.rates.length = 0;
		for (let round = 0; round < (quick ? 3 : 5); round++) {
			await hub.measure(count);
			await other.measure(count * share);
		}
		const durability = `flushed / ${syncAlways ? "flushed" : "file cache, flushed every 2 min"}`;
		results.push(compare(id, peer, other.rates, hub.rates, durability, { reach: `>= ${REACH}` }));
	}
	return results;
};
