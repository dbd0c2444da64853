// P5: requests from one plugin to another and their replies, by the SDK, beside NATS request/reply; 200 bytes each way.
// Requester, server and responder are a process each. 64 in flight: requests a second. One at a time: the median of the
// microseconds that each takes.
import { type Benchmark, compare, Worker } from "./bench.ts";
import { HubProcess } from "./hub-process.ts";
import { NATS_MISSING, NatsProcess } from "./nats-process.ts";

const DURABILITY = "memory, not stored / not stored";

/** What the requester says of a round. */
interface Round {
	readonly ms: number;
	/** Median of the requests' microseconds. */
	readonly p50: number;
}

class RequestSide implements AsyncDisposable {
	readonly rates: number[] = [];
	readonly medians: number[] = [];
	readonly #requester: Worker;
	readonly #others: readonly AsyncDisposable[];
	#from = 0;

	private constructor(requester: Worker, others: readonly AsyncDisposable[]) {
		this.#requester = requester;
		this.#others = others;
	}

	static async hub(): Promise<RequestSide> {
		const hub = await HubProcess.start("memory");
		const [from, to] = ["bench-requester", "bench-responder"];
		const responder = Worker.node("workers/sdk-responder.ts", [hub.url, await hub.enrol(to), to]);
		await responder.json();
		const requester = Worker.node("workers/sdk-requester.ts", [hub.url, await hub.enrol(from), from, to]);
		await requester.json();
		return new RequestSide(requester, [responder, hub]);
	}

	static async nats(): Promise<RequestSide> {
		const server = await NatsProcess.start();
		const responder = Worker.node("workers/nats-responder.ts", [server.address]);
		await responder.json();
		const requester = Worker.node("workers/nats-requester.ts", [server.address]);
		await requester.json();
		return new RequestSide(requester, [responder, server]);
	}

	async run(count: number, window: number): Promise<Round> {
		const round = await this.#requester.ask<Round>({ from: this.#from, count, window });
		this.#from += count;
		return round;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.#requester[Symbol.asyncDispose]();
		for (const other of this.#others) await other[Symbol.asyncDispose]();
	}
}

export const benchmark: Benchmark = async ({ quick }) => {
	if (NATS_MISSING) return [{ id: "P5", peer: "NATS request", skipped: NATS_MISSING }];
	const together = quick ? 10_000 : 40_000;
	const single = quick ? 2_000 : 5_000;
	await using hub = await RequestSide.hub();
	await using nats = await RequestSide.nats();
	const sides = [nats, hub];
	for (const side of sides) {
		await side.run(together, 64);
		await side.run(single, 1);
	}
	for (let round = 0; round < (quick ? 3 : 5); round++) {
		for (const side of sides) side.rates.push((together / (await side.run(together, 64)).ms) * 1000);
		for (const side of sides) side.medians.push((await side.run(single, 1)).p50);
	}
	return [
		compare("P5", "NATS request, 64 in flight", nats.rates, hub.rates, DURABILITY, { reach: ">= 0.7" }),
		compare("P5-p50", "NATS request, one at a time, µs", nats.medians, hub.medians, DURABILITY, { reach: "<= 1.5" }),
	];
};
