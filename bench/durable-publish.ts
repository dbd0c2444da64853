// P2: one publisher in a process of its own, 200 bytes of JSON an event, every event acknowledged. Each side gets the
// number of messages under way at which it is fastest in the warm-up.
import { type Benchmark, type BenchResult, compare, type Skipped, Worker } from "./bench.ts";
import { HubProcess } from "./hub-process.ts";
import { NATS_MISSING, NatsProcess } from "./nats-process.ts";

const HUB_DURABILITY = "flushed before the answer";

/** How a publisher keeps the server busy: messages in a batch, and how many batches are not acknowledged yet. */
interface Pace {
	readonly batch: number;
	readonly window: number;
}

const HUB_PACES: readonly Pace[] = [
	{ batch: 500, window: 4 },
	{ batch: 500, window: 8 },
	{ batch: 500, window: 16 },
];
const SINGLE_PACES: readonly Pace[] = [256, 1024, 4096, 16384].map((window) => ({ batch: 1, window }));
/** The server takes at most 1,000 messages a batch and 50 open batches. */
const ATOMIC_PACES: readonly Pace[] = [2, 8, 24].map((window) => ({ batch: 500, window }));

/** One server with its publisher. */
class Side implements AsyncDisposable {
	readonly rates: number[] = [];
	readonly #server: AsyncDisposable;
	readonly #publisher: Worker;
	#from = 0;
	#pace: Pace | undefined;

	constructor(server: AsyncDisposable, publisher: Worker) {
		this.#server = server;
		this.#publisher = publisher;
	}

	/** Warms both ends up, and finds the best pace. */
	async warmUp(paces: readonly Pace[], count: number): Promise<void> {
		let best = 0;
		for (const pace of [paces[0]!, ...paces]) {
			const rate = await this.#publish(count, pace);
			if (rate > best) {
				best = rate;
				this.#pace = pace;
			}
		}
	}

	async measure(count: number): Promise<void> {
		this.rates.push(await this.#publish(count, this.#pace!));
	}

	async #publish(count: number, pace: Pace): Promise<number> {
		const { ms } = await this.#publisher.ask<{ ms: number }>({ from: this.#from, count, ...pace });
		this.#from += count;
		return (count / ms) * 1000;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.#publisher[Symbol.asyncDispose]();
		await this.#server[Symbol.asyncDispose]();
	}
}

async function hubSide(): Promise<Side> {
	const hub = await HubProcess.start("embedded");
	const publisher = Worker.node("workers/hub-publisher.ts", [hub.url, await hub.enrol("bench-publisher")]);
	await publisher.json();
	return new Side(hub, publisher);
}

async function jetStreamSide(syncAlways: boolean): Promise<Side> {
	const server = await NatsProcess.start({ syncAlways });
	const publisher = Worker.node("workers/jetstream-publisher.ts", [server.address]);
	await publisher.json();
	return new Side(server, publisher);
}

export const benchmark: Benchmark = async ({ quick }) => {
	if (NATS_MISSING) return [{ id: "P2", peer: "NATS JetStream", skipped: NATS_MISSING }];
	const results: (BenchResult | Skipped)[] = [];
	const cases = [
		{ peer: "JetStream, pipelined", paces: SINGLE_PACES, syncAlways: false, share: 1 },
		{ peer: "JetStream, atomic batches", paces: ATOMIC_PACES, syncAlways: false, share: 1 },
		// A flush for each message: fewer of them tell as much.
		{ peer: "JetStream, sync always", paces: SINGLE_PACES, syncAlways: true, share: 0.1 },
		{ peer: "JetStream, sync always, atomic", paces: ATOMIC_PACES, syncAlways: true, share: 1 },
	];
	await using hub = await hubSide();
	const count = quick ? 10_000 : 200_000;
	await hub.warmUp(HUB_PACES, count / 4);
	for (const { peer, paces, syncAlways, share } of cases) {
		await using other = await jetStreamSide(syncAlways);
		await other.warmUp(paces, (count * share) / 4);
		hub.rates.length = 0;
		for (let round = 0; round < 3; round++) {
			await hub.measure(count);
			await other.measure(count * share);
		}
		const promised = syncAlways ? "flushed before the answer" : "in the file cache, flushed every 2 min";
		results.push(compare("P2", peer, other.rates, hub.rates, `${HUB_DURABILITY} / ${promised}`));
	}
	return results;
};
