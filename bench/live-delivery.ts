// P3: one publisher, one server, one subscriber, each in a process of its own; 200 bytes of JSON an event. The rate is
// the subscriber's, from the first event of a round to its last; it checks that none is missing or out of order.
import { type Benchmark, compare, Worker } from "./bench.ts";
import { HubProcess } from "./hub-process.ts";
import { NATS_MISSING, NatsProcess } from "./nats-process.ts";

/** How a publisher keeps the server busy: messages in a batch, and how many batches are not acknowledged yet. */
interface Pace {
	readonly batch: number;
	readonly window: number;
}

const HUB_PACES: readonly Pace[] = [8, 16].map((window) => ({ batch: 500, window }));
/** The client's `flush` is core NATS's only acknowledgement: that the server has read what was sent. */
const NATS_PACES: readonly Pace[] = [1000, 16_000].map((batch) => ({ batch, window: 2 }));

/** A publisher and a subscriber of one server. */
class Side implements AsyncDisposable {
	readonly rates: number[] = [];
	readonly #round: number;
	readonly #publisher: Worker;
	readonly #subscriber: Worker;
	#pace: Pace | undefined;
	#from = 0;

	constructor(round: number, publisher: Worker, subscriber: Worker) {
		this.#round = round;
		this.#publisher = publisher;
		this.#subscriber = subscriber;
	}

	/** Warms all ends up, and finds the best pace. */
	async warmUp(paces: readonly Pace[]): Promise<void> {
		await this.#publisher.json();
		await this.#subscriber.json();
		let best = 0;
		for (const pace of [paces[0]!, ...paces]) {
			const rate = await this.#publish(pace);
			if (rate > best) {
				best = rate;
				this.#pace = pace;
			}
		}
	}

	async measure(): Promise<void> {
		this.rates.push(await this.#publish(this.#pace!));
	}

	async #publish(pace: Pace): Promise<number> {
		const published = this.#publisher.ask({ from: this.#from, count: this.#round, ...pace });
		this.#from += this.#round;
		const [{ ms }] = await Promise.all([this.#subscriber.json<{ ms: number }>(), published]);
		return ((this.#round - 1) / ms) * 1000;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.#publisher[Symbol.asyncDispose]();
		await this.#subscriber[Symbol.asyncDispose]();
	}
}

export const benchmark: Benchmark = async ({ quick }) => {
	if (NATS_MISSING) return [{ id: "P3", peer: "core NATS", skipped: NATS_MISSING }];
	const hubRound = quick ? 20_000 : 200_000;
	const natsRound = quick ? 50_000 : 1_000_000;
	await using server = await NatsProcess.start();
	await using nats = new Side(
		natsRound,
		Worker.node("workers/nats-publisher.ts", [server.address]),
		Worker.node("workers/nats-subscriber.ts", [server.address, String(natsRound)]),
	);
	await using hub = await HubProcess.start("embedded");
	const tokens = [await hub.enrol("bench-publisher"), await hub.enrol("bench-subscriber")] as const;
	await using live = new Side(
		hubRound,
		Worker.node("workers/hub-publisher.ts", [hub.url, tokens[0]]),
		Worker.node("workers/hub-subscriber.ts", [hub.url, tokens[1], String(hubRound)]),
	);
	await nats.warmUp(NATS_PACES);
	await live.warmUp(HUB_PACES);
	for (let round = 0; round < 3; round++) {
		await live.measure();
		await nats.measure();
	}
	return [compare("P3", "core NATS", nats.rates, live.rates, "flushed before delivery / at most once, not stored")];
};
