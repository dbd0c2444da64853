import { randomInt } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import type { PipelineRequestSchema } from "#gen/qirvo/hub/v1/entries_pb.js";
import { failureOf } from "../harness/failure.ts";
import { type Clients, describeHubs, type TestHub } from "../harness/hub.ts";
import { Outbox } from "../harness/outbox.ts";
import { randomFrom, turns } from "../harness/random-from.ts";
import { StoreFollower } from "../harness/store-follower.ts";
import { setOf } from "../harness/store-values.ts";

/** Larger runs: set these. */
const CHANGES = Number(process.env.STORE_RESUME_CHANGES ?? 4000);
const WATCHERS = Number(process.env.STORE_RESUME_WATCHERS ?? 4);
/** Of all watchers together. */
const DISCONNECTS = Number(process.env.STORE_RESUME_DISCONNECTS ?? 24);
const SEED = Number(process.env.STORE_RESUME_SEED ?? randomInt(2 ** 31));

const WRITERS = 2;
const KEYS = 300;
const BATCH = 50;
const IN_FLIGHT = 8;
const VARIANT_MS = 170_000;

/** Sets and deletes entries in frames of a pipeline. Gives how many changes that made. */
async function write(writer: Clients, name: string, random: (below: number) => number): Promise<number> {
	const frames = new Outbox<MessageInitShape<typeof PipelineRequestSchema>>();
	let changed = 0;
	let answered = 0;
	let sent = 0;
	let wake = () => {};
	const answers = (async () => {
		for await (const { frame } of writer.stores.pipeline(frames)) {
			if (frame.case !== "results") continue;
			for (const { result } of frame.value.results) {
				if (result.case !== "write") throw new Error(`not written: ${JSON.stringify(result.value)}`);
				if (result.value.changed) changed++;
				answered++;
			}
			wake();
		}
	})();
	while (changed + (sent - answered) < CHANGES / WRITERS || sent > answered) {
		if (sent - answered < BATCH * IN_FLIGHT && changed + (sent - answered) < CHANGES / WRITERS) {
			const count = Math.min(BATCH, CHANGES / WRITERS - changed - (sent - answered));
			const operations = Array.from({ length: count }, () => {
				const key = `${name}/${random(KEYS)}`;
				const id = BigInt(sent++);
				return random(10) === 0
					? ({ id, operation: { case: "delete", value: { store: "s", key } } } as const)
					: ({ id, operation: { case: "set", value: setOf("s", key, sent) } } as const);
			});
			frames.push({ operations });
			await turns(random(3));
			continue;
		}
		const woken = new Promise<void>((resolve) => {
			wake = resolve;
		});
		await Promise.race([woken, answers]);
	}
	frames.end();
	await answers;
	return changed;
}

/** Follows the store until `isDone`, leaving and coming back again and again, and sometimes dawdling. */
async function follow(
	hub: TestHub,
	token: string,
	disconnects: number,
	random: (below: number) => number,
	isDone: (follower: StoreFollower) => boolean,
): Promise<{ readonly follower: StoreFollower; readonly left: number }> {
	const follower = new StoreFollower();
	let clients = hub.connect(token);
	let left = 0;
	// Spread over the run, as far as that can be known before.
	const between = Math.max(1, Math.floor(CHANGES / (disconnects + 1)));
	while (!isDone(follower)) {
		const leave = new AbortController();
		const until = left < disconnects ? (left + 1) * between - random(between) : Number.POSITIVE_INFINITY;
		const pace = random(3) === 0 ? 60 : 3;
		let isLeaving = false;
		const run = async () => {
			for await (const response of clients.stores.watch({ watches: [follower.watch] }, { signal: leave.signal })) {
				follower.take(response);
				if (isDone(follower)) return;
				if (follower.changes >= until && !isLeaving) {
					isLeaving = true;
					left++;
					if (random(2) === 0) {
						leave.abort();
					} else {
						clients[Symbol.dispose]();
						clients = hub.connect(token);
					}
				}
				await turns(random(pace));
			}
			throw new Error("the stream ended by itself");
		};
		await run().catch(async (error: unknown) => {
			const failure = await failureOf(Promise.reject(error));
			// What the client itself says of its broken connection; the hub ends none of these.
			if (!isLeaving || failure.reason !== undefined) throw error;
		});
		leave.abort();
	}
	return { follower, left };
}

describeHubs("watchers of a store that come and go", (start) => {
	it(`miss nothing, are told nothing twice and all in order (seed ${SEED})`, { timeout: VARIANT_MS }, async () => {
		await using hub = await start();
		const random = randomFrom(SEED);
		const grants = { stores: [{ store: "s", read: true, write: true, create: true }] };
		const owner = await hub.enrol("owner", grants);
		const lists = { read: { plugins: ["reader"] }, write: { plugins: ["*"] } };
		await owner.stores.createStore({ name: "s", config: lists });
		const { token } = await hub.enrol("reader", grants);
		const writers = await Promise.all(
			Array.from({ length: WRITERS }, (_, index) => hub.enrol(`writer${index}`, grants)),
		);

		let total: number | undefined;
		let ready = 0;
		const started = Promise.withResolvers<void>();
		const seen = new Set<StoreFollower>();
		const isDone = (follower: StoreFollower) => {
			// All begin with the empty store, so that all are told of all changes.
			if (follower.caughtUps > 0 && !seen.has(follower)) {
				seen.add(follower);
				if (++ready === WATCHERS) started.resolve();
			}
			return total !== undefined && follower.changes >= total;
		};
		const following = Promise.all(
			Array.from({ length: WATCHERS }, (_, index) => {
				const disconnects = Math.ceil((DISCONNECTS - index) / WATCHERS);
				return follow(hub, token, disconnects, randomFrom(random(2 ** 31)), isDone);
			}),
		);
		const writing = (async () => {
			await started.promise;
			const counts = writers.map((writer, index) => write(writer, `w${index}`, randomFrom(random(2 ** 31))));
			total = (await Promise.all(counts)).reduce((sum, count) => sum + count, 0);
			// Whoever has been told of all already hears of this one.
			total++;
			await owner.stores.set({ set: setOf("s", "end", true) });
		})();
		const [followed] = await Promise.all([following, writing]);

		const present = new Map<string, bigint>();
		for (let pageToken = "", more = true; more; more = pageToken !== "") {
			const page = await owner.stores.list({ store: "s", pageSize: 1000, pageToken });
			for (const { key, revision } of page.entries) present.set(key, revision);
			pageToken = page.nextPageToken;
		}
		for (const { follower } of followed) {
			expect(follower.changes).toBe(CHANGES + 1);
			expect(new Map([...follower.entries].sort())).toEqual(new Map([...present].sort()));
		}
		// The run was worth its name.
		expect(followed.reduce((sum, { left }) => sum + left, 0)).toBeGreaterThanOrEqual(Math.floor(DISCONNECTS * 0.9));
	});
});
