// P6: gets and sets of entries, 200 bytes a value, 20,000 keys, each answered. Client and server are a process each, and as many
// operations are unanswered on the one side as on the other, but where the row says what the hub has. A hub's client is its SDK
// or, where the row says batches, a bare stream of them, beside a Redis client that sends batches.
import { type Benchmark, type BenchResult, compare, type Skipped, Worker } from "./bench.ts";
import { ETCD_MISSING, EtcdProcess } from "./etcd-process.ts";
import { HubProcess } from "./hub-process.ts";
import { REDIS_MISSING, RedisProcess } from "./redis-process.ts";
import { type EntryCommand, KEYS } from "./workers/entry-rounds.ts";

type Kind = EntryCommand["kind"];
type Pace = Pick<EntryCommand, "window" | "batch">;

const SINGLE: Pace = { window: 4096, batch: 1 };
const BATCHES: Pace = { window: 4096, batch: 256 };
const FEW: Pace = { window: 64, batch: 1 };

const FLUSHED = "flushed / flushed";
const EVERY_SECOND = "flushed / file, flushed every second";

/** A server and its client. */
class EntrySide implements AsyncDisposable {
	readonly rates: Record<Kind, number[]> = { set: [], get: [] };
	readonly #server: AsyncDisposable;
	readonly #client: Worker;
	#from = 0;

	private constructor(server: AsyncDisposable, client: Worker) {
		this.#server = server;
		this.#client = client;
	}

	static async #open(server: AsyncDisposable, worker: string, args: readonly string[]): Promise<EntrySide> {
		const client = Worker.node(`workers/${worker}.ts`, args);
		await client.json();
		return new EntrySide(server, client);
	}

	static async hub(client: "sdk" | "pipeline"): Promise<EntrySide> {
		const hub = await HubProcess.start("embedded");
		const id = "bench-store";
		return await EntrySide.#open(hub, `${client}-entries`, [hub.url, await hub.enrol(id), id]);
	}

	static async redis(appendfsync: "always" | "everysec"): Promise<EntrySide> {
		const redis = await RedisProcess.start(appendfsync);
		return await EntrySide.#open(redis, "redis-entries", [redis.address]);
	}

	static async etcd(): Promise<EntrySide> {
		const etcd = await EtcdProcess.start();
		return await EntrySide.#open(etcd, "etcd-entries", [etcd.address]);
	}

	/** The first sets write every key. */
	async warmUp(count: number, pace: Pace, kinds: readonly Kind[] = ["set", "get"]): Promise<void> {
		for (const kind of kinds) {
			for (let round = 0; round < 2; round++) await this.#round(kind, Math.max(count, KEYS), pace);
		}
	}

	async measure(kind: Kind, count: number, pace: Pace): Promise<void> {
		this.rates[kind].push(await this.#round(kind, count, pace));
	}

	forget(): void {
		this.rates.set.length = 0;
		this.rates.get.length = 0;
	}

	async #round(kind: Kind, count: number, pace: Pace): Promise<number> {
		const { ms } = await this.#client.ask<{ ms: number }>({ kind, from: this.#from, count, ...pace });
		this.#from += count;
		return (count / ms) * 1000;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.#client[Symbol.asyncDispose]();
		await this.#server[Symbol.asyncDispose]();
	}
}

export const benchmark: Benchmark = async ({ quick }) => {
	const count = quick ? 20_000 : 100_000;
	const results: (BenchResult | Skipped)[] = [];
	await using hub = await EntrySide.hub("sdk");
	await hub.warmUp(count, SINGLE);
	if (REDIS_MISSING) results.push({ id: "P6", peer: "Redis", skipped: REDIS_MISSING });
	else results.push(...(await besideRedis(hub, count)));
	if (ETCD_MISSING) results.push({ id: "P6", peer: "etcd", skipped: ETCD_MISSING });
	else results.push(...(await besideEtcd(hub, count)));
	return results;
};

const ROUNDS = 3;

async function besideRedis(hub: EntrySide, count: number): Promise<BenchResult[]> {
	const results: BenchResult[] = [];
	await using redis = await EntrySide.redis("everysec");
	await redis.warmUp(count, SINGLE);
	await rounds(["set", "get"], [hub, count, SINGLE], [redis, count, SINGLE]);
	const single = `${SINGLE.window} in flight`;
	const reach = { reach: ">= 0.7" };
	results.push(compare("P6-set", `Redis SET, ${single}`, redis.rates.set, hub.rates.set, EVERY_SECOND, reach));
	results.push(compare("P6-get", `Redis GET, ${single}`, redis.rates.get, hub.rates.get, EVERY_SECOND, reach));

	await using bare = await EntrySide.hub("pipeline");
	await bare.warmUp(count, BATCHES);
	redis.forget();
	await redis.warmUp(count, BATCHES);
	await rounds(["set", "get"], [bare, count, BATCHES], [redis, count, BATCHES]);
	const batches = `batches, ${BATCHES.window} in flight`;
	results.push(compare("P6-set-batch", `Redis SET, ${batches}`, redis.rates.set, bare.rates.set, EVERY_SECOND));
	results.push(compare("P6-get-batch", `Redis GET, ${batches}`, redis.rates.get, bare.rates.get, EVERY_SECOND));

	await using always = await EntrySide.redis("always");
	await always.warmUp(count, SINGLE, ["set"]);
	hub.forget();
	await rounds(["set"], [hub, count, SINGLE], [always, count, SINGLE]);
	results.push(compare("P6-set-sync", `Redis SET, ${single}`, always.rates.set, hub.rates.set, FLUSHED));
	return results;
}

async function besideEtcd(hub: EntrySide, count: number): Promise<BenchResult[]> {
	await using etcd = await EntrySide.etcd();
	const peer = `etcd put, ${FEW.window} in flight`;
	const few = count / 5;
	await etcd.warmUp(few, FEW, ["set"]);
	hub.forget();
	await rounds(["set"], [hub, count, SINGLE], [etcd, few, FEW]);
	const pipelined = compare("P6-etcd", `${peer}; hub ${SINGLE.window}`, etcd.rates.set, hub.rates.set, FLUSHED, {
		reach: ">= 10",
	});
	etcd.forget();
	hub.forget();
	await hub.warmUp(few, FEW, ["set"]);
	await rounds(["set"], [hub, few, FEW], [etcd, few, FEW]);
	return [pipelined, compare("P6-etcd-same", peer, etcd.rates.set, hub.rates.set, FLUSHED)];
}

/** Measures the sides in turn, each with its own number of operations a round. */
async function rounds(kinds: readonly Kind[], ...sides: readonly [EntrySide, number, Pace][]): Promise<void> {
	for (let round = 0; round < ROUNDS; round++) {
		for (const kind of kinds) {
			for (const [side, count, pace] of sides) await side.measure(kind, count, pace);
		}
	}
}
