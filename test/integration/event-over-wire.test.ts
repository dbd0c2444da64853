import { Code, type ConnectError } from "@connectrpc/connect";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { SubscribeResponse } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { ALL_GRANTS, type Clients, describeHubs, reasonOf, type TestHub, until } from "../harness/hub.ts";

type Position = SubscribeResponse["position"];

/** What a subscription has sent, gathered in the background. */
class Feed {
	readonly frames: SubscribeResponse[] = [];
	readonly #abort = new AbortController();
	readonly done: Promise<ConnectError | undefined>;

	constructor(clients: Clients, request: Parameters<Clients["events"]["subscribe"]>[0]) {
		this.done = this.#read(clients, request);
	}

	get subjects(): string[] {
		return this.frames.flatMap(({ frame }) =>
			frame.case === "batch" ? frame.value.events.map((event) => event.subject) : [],
		);
	}

	get position(): Position {
		return this.frames.at(-1)?.position;
	}

	has(kind: SubscribeResponse["frame"]["case"]): boolean {
		return this.frames.some(({ frame }) => frame.case === kind);
	}

	/** Drops the connection and waits until that is known here. */
	async leave(): Promise<void> {
		this.#abort.abort();
		await this.done;
	}

	async #read(
		clients: Clients,
		request: Parameters<Clients["events"]["subscribe"]>[0],
	): Promise<ConnectError | undefined> {
		try {
			for await (const frame of clients.events.subscribe(request, { signal: this.#abort.signal }))
				this.frames.push(frame);
			return undefined;
		} catch (error) {
			return error as ConnectError;
		}
	}
}

const everything = { from: { case: "everything" as const, value: true } };

describeHubs("events over the wire", (start) => {
	let hub: TestHub;
	let publisher: Clients;
	let watcher: Clients;

	beforeEach(async () => {
		hub = await start();
		publisher = await hub.enrol("publisher");
		watcher = await hub.enrol("watcher");
	});

	afterEach(async () => {
		await hub[Symbol.asyncDispose]();
	});

	test("publishes, delivers live, and shows the same in history", async () => {
		const feed = new Feed(watcher, { patterns: ["a.*"] });
		await until(() => feed.has("caughtUp"));
		const payload = { body: { case: "json" as const, value: '{"é": [1]}' }, contentType: "application/json" };
		const event = { id: "e1", type: "a:b", subject: "s", attributes: { traceparent: "00-1" }, payload };
		const answer = await publisher.events.emit({ event });
		expect(answer).toMatchObject({ id: "e1", duplicate: false });
		await until(() => feed.subjects.length === 1);
		const batch = feed.frames.find(({ frame }) => frame.case === "batch")!.frame;
		if (batch.case !== "batch") throw new Error("no batch");
		const [delivered] = batch.value.events;
		expect(delivered).toMatchObject({ ...event, source: "publisher", sequence: answer.position!.sequence });
		const { events, epoch } = await watcher.events.listEvents({ patterns: ["a.b"] });
		expect(events).toEqual([delivered]);
		expect(epoch).toBe(answer.position!.epoch);
		await feed.leave();
	});

	test("publishes batches and says what became of each entry", async () => {
		async function* batches() {
			yield { batchId: 1n, events: [{ id: "x", type: "a" }, { type: "" }, { type: "a", source: "watcher" }] };
			yield { batchId: 2n, events: [{ id: "x", type: "a" }] };
		}
		const frames = [];
		for await (const { frame } of publisher.events.emitStream(batches())) frames.push(frame);
		expect(frames.map((frame) => frame.case)).toEqual(["ready", "acknowledgement", "acknowledgement"]);
		expect(frames[1]!.value).toMatchObject({
			batchId: 1n,
			stored: 1,
			exceptions: [
				{ index: 1, outcome: { value: { code: Code.InvalidArgument, reason: "INVALID_EVENT_TYPE" } } },
				{ index: 2, outcome: { value: { code: Code.PermissionDenied, reason: "SPOOFED_SOURCE" } } },
			],
		});
		expect(frames[2]!.value).toMatchObject({
			batchId: 2n,
			stored: 0,
			exceptions: [{ outcome: { case: "duplicateOf" } }],
		});
	});

	test("refuses what the grants do not cover", async () => {
		const limited = await hub.enrol("limited", { ...ALL_GRANTS, emit: ["mine.**"], subscribe: ["mine.a"], replay: [] });
		const refused = async (work: Promise<unknown>) => {
			const error = await work.then(
				() => undefined,
				(thrown: ConnectError) => thrown,
			);
			return [error?.code, error && reasonOf(error)];
		};
		const denied = [Code.PermissionDenied, "INSUFFICIENT_PERMISSIONS"];
		expect(await refused(limited.events.emit({ event: { type: "other" } }))).toEqual(denied);
		expect(await refused(limited.events.listEvents({ patterns: ["mine.a"] }))).toEqual(denied);
		for (const request of [{ patterns: ["mine.*"] }, { patterns: ["mine.a"], start: everything }]) {
			const error = await new Feed(limited, request).done;
			expect([error?.code, error && reasonOf(error)]).toEqual(denied);
		}
		await limited.events.emit({ event: { type: "mine.b" } });
	});

	test("ends a subscription within a second of losing its grant", async () => {
		const feed = new Feed(watcher, { patterns: ["a"] });
		await until(() => feed.has("caughtUp"));
		await hub.operator.admin.setPermissions({ pluginId: "watcher", permissions: { ...ALL_GRANTS, subscribe: ["b"] } });
		const at = performance.now();
		const error = await feed.done;
		expect(performance.now() - at).toBeLessThan(1000);
		expect(error && reasonOf(error)).toBe("PERMISSION_REVOKED");
		expect(feed.has("revoked")).toBe(true);
	});

	test("tells of plugins that come, to those who may know", async () => {
		const feed = new Feed(watcher, { patterns: ["plugin.**"], start: everything });
		await hub.enrol("newcomer");
		await until(() => feed.subjects.includes("newcomer"));
		await feed.leave();
	});

	test("feeds readers without gap or repeat over disconnects, while events are published", async () => {
		const total = 3000;
		const seen = Array.from({ length: 4 }, () => [] as string[]);
		const readers = seen.map(async (subjects, reader) => {
			let position: Position;
			for (;;) {
				const feed = new Feed(watcher, {
					patterns: ["n.*"],
					start: position ? { from: { case: "after", value: position } } : everything,
				});
				const wanted = Math.min(total, subjects.length + 200 + reader * 97);
				await until(() => subjects.length + feed.subjects.length >= wanted, {
					ms: 15_000,
					problem: () => `reader ${reader} has ${subjects.length} and ${feed.subjects.length} events`,
				});
				await feed.leave();
				subjects.push(...feed.subjects);
				position = feed.position;
				if (subjects.length >= total) return;
			}
		});
		async function* batches() {
			for (let first = 0; first < total; first += 50) {
				const events = Array.from({ length: 50 }, (_, index) => ({
					type: `n.${(first + index) % 3}`,
					subject: String(first + index),
				}));
				yield { batchId: BigInt(first), events };
			}
		}
		let stored = 0;
		for await (const { frame } of publisher.events.emitStream(batches())) {
			if (frame.case === "acknowledgement") stored += frame.value.stored;
		}
		expect(stored).toBe(total);
		await Promise.all(readers);
		const expected = Array.from({ length: total }, (_, index) => String(index));
		for (const subjects of seen) expect(subjects).toEqual(expected);
	});

	test("tells subscribers where to resume when the hub stops", async () => {
		const feed = new Feed(watcher, { patterns: ["a"] });
		await until(() => feed.has("caughtUp"));
		const { position } = await publisher.events.emit({ event: { type: "a" } });
		await until(() => feed.subjects.length === 1);
		await hub.running.stop();
		const error = await feed.done;
		expect(error?.code).toBe(Code.Unavailable);
		expect(feed.has("draining")).toBe(true);
		expect(feed.position).toEqual(position);
	});
});
