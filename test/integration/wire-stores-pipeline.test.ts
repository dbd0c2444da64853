import type { MessageInitShape } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import type {
	PipelineOperationSchema,
	PipelineRequestSchema,
	PipelineResponse,
	PipelineResult,
} from "#gen/qirvo/hub/v1/entries_pb.js";
import { failureOf } from "../harness/failure.ts";
import { Feed } from "../harness/feed.ts";
import { type Clients, describeHubs, type TestHub, until } from "../harness/hub.ts";
import { Outbox } from "../harness/outbox.ts";
import { binary, contents, expects, setOf } from "../harness/store-values.ts";

type Up = MessageInitShape<typeof PipelineRequestSchema>;
type Operation = MessageInitShape<typeof PipelineOperationSchema>["operation"];

/** A pipeline of a plugin: what goes up, and the results by id. */
class Pipe {
	readonly up = new Outbox<Up>();
	readonly down: Feed<PipelineResponse>;
	#id = 0n;

	constructor({ stores }: Clients) {
		this.down = new Feed(stores.pipeline(this.up));
	}

	/** Sends one frame; gives the ids of its operations. */
	send(...operations: Operation[]): bigint[] {
		const numbered = operations.map((operation) => ({ id: ++this.#id, operation }));
		this.up.push({ operations: numbered });
		return numbered.map(({ id }) => id);
	}

	get results(): PipelineResult[] {
		return this.down.all("results").flatMap(({ results }) => results);
	}

	/** The results of these operations, in their order, once all are there. */
	async answers(...operations: Operation[]): Promise<PipelineResult["result"][]> {
		const ids = this.send(...operations);
		const found = () => new Map(this.results.map(({ id, result }) => [id, result]));
		await this.down.when(() => ids.every((id) => found().has(id)));
		return ids.map((id) => found().get(id)!);
	}
}

const get = (store: string, key: string): Operation => ({ case: "get", value: { store, key } });
const set = (store: string, key: string, value: unknown, more: object = {}): Operation => ({
	case: "set",
	value: setOf(store, key, value, more),
});
const add = (store: string, key: string, delta = 1n): Operation => ({
	case: "increment",
	value: { store, key, delta },
});

async function world(hub: TestHub) {
	const plugin = await hub.enrol("plugin");
	await plugin.stores.createStore({ name: "s" });
	await plugin.stores.createStore({ name: "v", config: { persistent: false } });
	return plugin;
}

describeHubs("a pipeline", (start) => {
	it("does what the unary calls do, each operation for itself", async () => {
		await using hub = await start();
		const plugin = await world(hub);
		const pipe = new Pipe(plugin);
		await pipe.down.first("ready");
		for (const store of ["s", "v"]) {
			const [missing, written] = await pipe.answers(get(store, "a"), set(store, "a", 1));
			expect(missing).toMatchObject({ case: "error", value: { code: 5, reason: "ENTRY_NOT_FOUND" } });
			expect(written).toMatchObject({ case: "write", value: { changed: true } });
			const others = await pipe.answers(
				get(store, "a"),
				set(store, "a", 2, { expected: expects.absent }),
				{ case: "append", value: { store, key: "list", elementJson: "1" } },
				add(store, "n", -2n),
				{ case: "delete", value: { store, key: "a", returnPrevious: true } },
				{ case: "transact", value: { writes: [{ write: { case: "set", value: setOf(store, "t", 1) } }] } },
				{ case: "transact", value: { checks: [{ store, key: "zz", expected: expects.exists }] } },
				{ case: "transact", value: { writes: [], requestId: "x" } },
				{ case: "set", value: { store, key: "x" } },
				{ case: undefined },
				get("unknown", "a"),
			);
			expect(others).toMatchObject([
				{ case: "entry", value: { key: "a", writer: "plugin" } },
				{ case: "error", value: { code: 10, reason: "REVISION_MISMATCH" } },
				{ case: "write", value: { changed: true } },
				{ case: "write", value: { number: -2n } },
				{ case: "write", value: { changed: true, previous: { key: "a" } } },
				{ case: "transaction", value: { results: [{ changed: true }], duplicate: false } },
				{ case: "error", value: { reason: "REVISION_MISMATCH" } },
				{ case: "error", value: { reason: "INVALID_FIELD" } },
				{ case: "error", value: { reason: "INVALID_FIELD", metadata: { field: "operations[8].set.value" } } },
				{ case: "error", value: { reason: "INVALID_FIELD", metadata: { field: "operations[9].operation" } } },
				{ case: "error", value: { reason: "STORE_NOT_FOUND" } },
			]);
			const failed = pipe.results.filter(({ failedChecks }) => failedChecks.length > 0).slice(-2);
			expect(failed.map(({ failedChecks }) => failedChecks[0])).toMatchObject([
				{ store, key: "a", expected: expects.absent },
				{ store, key: "zz", expected: expects.exists, actualRevision: 0n },
			]);
			expect(contents((await plugin.stores.list({ store })).entries)).toEqual({ list: [1], n: -2, t: 1 });
		}
		pipe.up.end();
		await pipe.down.ended;
		expect(pipe.down.failure).toBeUndefined();
	});

	it("keeps the order of the writes of a key, with thousands in flight", async () => {
		await using hub = await start();
		const plugin = await world(hub);
		for (const store of ["s", "v"]) {
			const pipe = new Pipe(plugin);
			const frames = 5;
			const each = 2000;
			for (let frame = 0; frame < frames; frame++) {
				const number = (index: number) => frame * each + index;
				pipe.send(
					...Array.from({ length: each }, (_, index) =>
						index % 100 === 99 ? add(store, "n") : set(store, `k${index % 50}`, number(index)),
					),
				);
			}
			pipe.up.end();
			await pipe.down.ended;
			expect(pipe.down.failure).toBeUndefined();
			expect(pipe.results).toHaveLength(frames * each);
			expect(new Set(pipe.results.map(({ id }) => id)).size).toBe(frames * each);
			const found = contents((await plugin.stores.list({ store, pageSize: 1000 })).entries);
			expect(found.n).toBe((frames * each) / 100);
			for (let index = 0; index < 49; index++) expect(found[`k${index}`]).toBe((frames - 1) * each + each - 50 + index);
			const numbers = pipe.results.flatMap(({ result }) =>
				result.case === "write" && result.value.number > 0n ? [Number(result.value.number)] : [],
			);
			expect(numbers).toEqual(numbers.map((_, index) => index + 1));
		}
	});

	it("holds back who does not take its results, and loses nothing", async () => {
		await using hub = await start();
		const plugin = await world(hub);
		const large = Buffer.alloc(200_000, 1);
		await plugin.stores.set({ set: { store: "s", key: "large", value: binary(large) } });
		let sent = 0;
		async function* requests(): AsyncGenerator<Up> {
			for (let frame = 0; frame < 10; frame++) {
				const operations = Array.from({ length: 100 }, () => ({ id: BigInt(++sent), operation: get("s", "large") }));
				yield { operations };
			}
		}
		const iterator = plugin.stores.pipeline(requests())[Symbol.asyncIterator]();
		let read = 0;
		await iterator.next();
		const before = process.memoryUsage().arrayBuffers;
		await until(() => sent >= 500);
		await new Promise((resolve) => setTimeout(resolve, 200));
		// 1,000 results are 200 MB.
		expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(80_000_000);
		for (let next = await iterator.next(); !next.done; next = await iterator.next()) {
			if (next.value.frame.case !== "results") continue;
			for (const { result } of next.value.frame.value.results) {
				expect(result.case).toBe("entry");
				read++;
			}
		}
		expect(read).toBe(1000);
	});

	it("withdraws what nobody has begun when its caller goes, and leaves nothing half done", async () => {
		await using hub = await start();
		const plugin = await world(hub);
		for (const store of ["s", "v"]) {
			const abort = new AbortController();
			const up = new Outbox<Up>();
			const down = new Feed(plugin.stores.pipeline(up, { signal: abort.signal }));
			await down.first("ready");
			// Each waits for the one before it: they are of one key.
			const write = (number: number): Operation => ({
				case: "transact",
				value: {
					writes: ["a", "b"].map((key) => ({ write: { case: "set", value: setOf(store, key, number) } as const })),
				},
			});
			for (let frame = 0; frame < 4; frame++) {
				const operations = Array.from({ length: 1000 }, (_, index) => frame * 1000 + index + 1);
				up.push({ operations: operations.map((number) => ({ id: BigInt(number), operation: write(number) })) });
			}
			await down.first("results");
			abort.abort();
			await down.ended;
			const last = async () => {
				const found = contents((await plugin.stores.list({ store })).entries);
				expect(found.a).toBe(found.b);
				return found.a as number;
			};
			let seen = -1;
			await until(async () => {
				const now = await last();
				const settled = now === seen;
				seen = now;
				await new Promise((resolve) => setTimeout(resolve, 50));
				return settled;
			});
			const answered = down.all("results").flatMap(({ results }) => results).length;
			expect(seen).toBeGreaterThanOrEqual(answered);
			expect(seen).toBeLessThan(4000);
		}
	});

	it("ends with what it stands on, and judges each operation when it comes", async () => {
		await using hub = await start();
		const plugin = await world(hub);
		const pipe = new Pipe(plugin);
		expect(await pipe.answers(set("s", "a", 1))).toMatchObject([{ case: "write" }]);
		const permissions = { stores: [{ store: "s", read: true }] };
		await hub.operator.admin.setPermissions({ pluginId: "plugin", permissions });
		expect(await pipe.answers(set("s", "a", 2), get("s", "a"), get("v", "a"))).toMatchObject([
			{ case: "error", value: { code: 7, reason: "INSUFFICIENT_PERMISSIONS" } },
			{ case: "entry" },
			{ case: "error", value: { code: 7, reason: "INSUFFICIENT_PERMISSIONS" } },
		]);
		await hub.operator.plugins.disable({ pluginId: "plugin" });
		await pipe.down.ended;
		expect(pipe.down.cases.at(-1)).toBe("revoked");
		expect(pipe.down.failure).toMatchObject({ reason: "PLUGIN_DISABLED" });
	});

	it("answers what was begun as the hub stops", async () => {
		await using hub = await start();
		const plugin = await world(hub);
		const pipe = new Pipe(plugin);
		await pipe.down.first("ready");
		pipe.send(...Array.from({ length: 2000 }, (_, index) => set("s", `k${index}`, index)));
		await pipe.down.first("results");
		await hub.running.stop();
		await pipe.down.ended;
		expect(pipe.down.cases.at(-1)).toBe("draining");
		expect(pipe.down.failure).toMatchObject({ code: "Unavailable", reason: "HUB_DRAINING" });
		expect(pipe.results).toHaveLength(2000);
		expect(pipe.results.every(({ result }) => result.case === "write")).toBe(true);
	});

	it("is refused as a whole where a frame is none", async () => {
		await using hub = await start();
		const plugin = await world(hub);
		const bad: [Up, string][] = [
			[{ operations: [] }, "operations"],
			[{ operations: Array.from({ length: 4097 }, () => ({ operation: get("s", "a") })) }, "operations"],
		];
		for (const [frame, field] of bad) {
			const feed = new Feed(plugin.stores.pipeline(new Outbox(frame).ending()));
			await feed.ended;
			expect(feed.failure).toMatchObject({ code: "InvalidArgument", fields: [field] });
		}
		const operators = hub.operator.stores.pipeline(new Outbox<Up>().ending());
		expect(await failureOf(operators[Symbol.asyncIterator]().next())).toMatchObject({ reason: "CALLER_NOT_ALLOWED" });
	});
});
