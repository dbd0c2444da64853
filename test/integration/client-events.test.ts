import { Code } from "@connectrpc/connect";
import { describe, expect, it, vi } from "vitest";
import { Admission } from "../../src/client/admission.ts";
import type { HubClientError, HubEvent } from "../../src/client/exports.ts";
import { FakeHub } from "./client-fake-hub.ts";
import { open, until } from "./client-opener.ts";

describe("emit", () => {
	it("resolves with the position, and gathers what is queued while batches are in flight", async () => {
		const hub = new FakeHub();
		const { client } = await open(hub);
		const results = await Promise.all(Array.from({ length: 500 }, (_, n) => client.events.emit("task.created", { n })));
		expect(results.map((result) => result.position.sequence)).toEqual(
			Array.from({ length: 500 }, (_, n) => BigInt(n + 1)),
		);
		expect(results[0]).toEqual({ id: "id-1", position: { epoch: "e1", sequence: 1n }, duplicate: false });
		expect(hub.calls.filter((call) => call === "EmitStream")).toHaveLength(1);
		expect(hub.batchSizes.length).toBeLessThanOrEqual(5);
		expect(hub.log.map(({ event }) => event.payload?.body.value)).toEqual(
			Array.from({ length: 500 }, (_, n) => `{"n":${n}}`),
		);
	});

	it("stores each event once and in order when acknowledgements are lost", async () => {
		const hub = new FakeHub();
		const { client, clock } = await open(hub);
		hub.faults.loseAcknowledgements = 3;
		const results: bigint[] = [];
		for (let n = 0; n < 40; n++) {
			void client.events.emit("task.created", { n }).then((result) => {
				expect(result.duplicate).toBe(false);
				results.push(result.position.sequence);
			});
			if (n % 10 === 0) await clock.advance(1);
		}
		await until(clock, () => results.length === 40);
		expect(hub.log.map(({ event }) => JSON.parse(String(event.payload?.body.value)).n)).toEqual(
			Array.from({ length: 40 }, (_, n) => n),
		);
		expect(results).toEqual(hub.log.map(({ sequence }) => sequence));
		expect(hub.calls.filter((call) => call === "EmitStream").length).toBe(4);
	});

	it("says which entry of a batch was refused, and that an id was emitted before", async () => {
		const hub = new FakeHub();
		const { client } = await open(hub);
		await client.events.emit("a", 1, { id: "mine" });
		const [first, refused, duplicate, last] = await client.events.emitBatch([
			{ type: "b", data: 1 },
			{ type: "refused", data: 1 },
			{ type: "a", data: 1, id: "mine" },
			{ type: "c", data: 1 },
		]);
		expect(first).toMatchObject({ status: "fulfilled", value: { position: { sequence: 2n } } });
		expect(refused).toMatchObject({ reason: { reason: "INSUFFICIENT_PERMISSIONS", code: Code.PermissionDenied } });
		expect(duplicate).toMatchObject({ value: { id: "mine", duplicate: true, position: { sequence: 1n } } });
		expect(last).toMatchObject({ value: { position: { sequence: 3n } } });
	});

	it("does not send again what the hub may have forgotten", async () => {
		const hub = new FakeHub();
		const { client, clock } = await open(hub);
		await client.events.emit("a");
		hub.faults.loseAcknowledgements = 1;
		const failed = client.events.emit("b").catch((error: HubClientError) => error.reason);
		await clock.advance(0);
		hub.faults.down = true;
		const waiting = client.events.emit("c");
		await clock.advance(100_000);
		hub.faults.down = false;
		await until(clock, () => hub.log.length === 3);
		expect(await failed).toBe("OUTCOME_UNKNOWN");
		expect((await waiting).position.sequence).toBe(3n);
	});

	it("rejects what waits when the client closes, and when its caller gives up", async () => {
		const hub = new FakeHub();
		const { client, clock } = await open(hub);
		hub.faults.down = true;
		hub.disconnect();
		await clock.advance(0);
		const abort = new AbortController();
		const given = client.events.emit("a", 1, { signal: abort.signal }).catch((error: HubClientError) => error.reason);
		const waiting = client.events.emit("a").catch((error: HubClientError) => error.reason);
		abort.abort();
		expect(await given).toBe("CANCELLED");
		await client.close();
		expect(await waiting).toBe("CLIENT_CLOSED");
		await expect(client.events.emit("a")).rejects.toMatchObject({ reason: "CLIENT_CLOSED" });
		expect(clock.pendingTimers).toBe(0);
	});
});

describe("emit by unary calls", () => {
	it("stores each event once when answers are lost, and rejects what is refused", async () => {
		const hub = new FakeHub();
		const { client, clock } = await open(hub, { bidi: false });
		hub.faults.loseAcknowledgements = 3;
		const results: boolean[] = [];
		for (let n = 0; n < 30; n++) void client.events.emit("a", n).then(({ duplicate }) => results.push(duplicate));
		await until(clock, () => results.length === 30);
		expect(new Set(results)).toEqual(new Set([false]));
		expect(hub.log).toHaveLength(30);
		expect(hub.calls.filter((call) => call === "Emit")).toHaveLength(33);
		hub.faults.refuse.set("Emit", { code: Code.ResourceExhausted, reason: "RATE_LIMIT_EXCEEDED", times: 1 });
		await expect(client.events.emit("a", 1)).rejects.toMatchObject({ reason: "RATE_LIMIT_EXCEEDED" });
		await client.events.emit("a", 2);
		expect(hub.log).toHaveLength(31);
	});
});

describe("the bound of what is on its way", () => {
	it("makes callers wait in line and serves them in order", () => {
		const admission = new Admission(2, 100);
		const entered: string[] = [];
		const enter = (name: string, bytes: number) => admission.enter({ bytes, enter: () => entered.push(name) > 0 });
		enter("a", 10);
		enter("too large", 500);
		enter("fits, but waits its turn", 1);
		expect(entered).toEqual(["a"]);
		admission.leave(10);
		expect(entered).toEqual(["a", "too large"]);
		admission.leave(500);
		enter("b", 5);
		enter("third", 5);
		expect(entered.slice(2)).toEqual(["fits, but waits its turn", "b"]);
		expect(admission.items).toBe(2);
		for (let waiting = 1; waiting < 100_000; waiting++) enter("w", 1);
		expect(() => enter("one too many", 1)).toThrow(expect.objectContaining({ reason: "BUFFER_FULL" }));
	});

	it("refuses what is too heavy for a line, and takes it again once the line is shorter", () => {
		const admission = new Admission(1, 100);
		const megabytes = 1024 * 1024;
		const enter = (bytes: number) => admission.enter({ bytes, enter: () => true });
		enter(1);
		enter(200 * megabytes);
		enter(56 * megabytes);
		expect(() => enter(1)).toThrow(expect.objectContaining({ reason: "BUFFER_FULL" }));
		admission.leave(1);
		enter(200 * megabytes);
		expect(() => enter(1)).toThrow(expect.objectContaining({ reason: "BUFFER_FULL" }));
		// One is never too heavy for an empty line.
		const other = new Admission(1, 100);
		other.enter({ bytes: 1, enter: () => true });
		other.enter({ bytes: 300 * megabytes, enter: () => true });
		expect(() => other.enter({ bytes: 1, enter: () => true })).toThrow();
	});

	it("lets every event through in order when there are more than it holds", async () => {
		const hub = new FakeHub();
		const { client } = await open(hub);
		const big = "x".repeat(1024 * 1024);
		const emitted = Array.from({ length: 60 }, (_, n) => client.events.emit("a", [n, big]));
		expect((await Promise.all(emitted)).map(({ position }) => position.sequence)).toEqual(
			Array.from({ length: 60 }, (_, n) => BigInt(n + 1)),
		);
		expect(Math.max(...hub.batchSizes)).toBeLessThanOrEqual(2);
	});
});

describe("on", () => {
	it("passes matching events in order, one at a time", async () => {
		const hub = new FakeHub();
		const { client, clock } = await open(hub);
		const seen: string[] = [];
		let running = 0;
		await client.events.on("task.*", async (event) => {
			expect(++running).toBe(1);
			await Promise.resolve();
			seen.push(`${event.type} ${event.data.n}`);
			running--;
		});
		for (let n = 0; n < 5; n++) await client.events.emit(n === 2 ? "other" : "task:created", { n });
		await until(clock, () => seen.length === 4);
		expect(seen).toEqual([0, 1, 3, 4].map((n) => `task:created ${n}`));
	});

	it("neither loses nor repeats an event over many losses of the connection", async () => {
		const hub = new FakeHub();
		const { client, clock } = await open(hub);
		hub.faults.breakAfterBatches = 2;
		const seen: number[] = [];
		const replayed: boolean[] = [];
		const subscription = await client.events.on("n", async (event) => {
			await Promise.resolve();
			seen.push(event.data);
			replayed.push(event.isReplay);
		});
		for (let n = 0; n < 100; n++) {
			hub.publish("n", n);
			hub.publish("other");
			if (n % 7 === 0) await clock.advance(20);
			if (n % 20 === 0) hub.disconnect();
		}
		await until(clock, () => seen.length >= 100);
		await clock.advance(60_000);
		expect(seen).toEqual(Array.from({ length: 100 }, (_, n) => n));
		expect(hub.subscribeRequests.length).toBeGreaterThan(10);
		expect(replayed).not.toContain(true);
		expect(subscription.position?.sequence).toBe(200n);
	});

	it("goes on behind an event whose handler threw, and reports it", async () => {
		const hub = new FakeHub();
		const { client, clock } = await open(hub);
		const seen: number[] = [];
		const problems: unknown[] = [];
		await client.events.on(
			"n",
			(event) => {
				seen.push(event.data);
				if (event.data === 1) throw new Error("bad");
				if (event.data === 2) return Promise.reject(new Error("worse"));
			},
			{ onError: (error, { event }) => problems.push([(error as Error).message, event?.data]) },
		);
		for (let n = 0; n < 4; n++) hub.publish("n", n);
		await until(clock, () => seen.length === 4);
		hub.disconnect();
		await clock.advance(10_000);
		expect(seen).toEqual([0, 1, 2, 3]);
		expect(problems).toEqual([
			["bad", 1],
			["worse", 2],
		]);
	});

	it.each(["continue", "stop"] as const)("reports a gap and then %ss", async (onGap) => {
		const hub = new FakeHub();
		const { client, clock } = await open(hub);
		const seen: number[] = [];
		const gaps: unknown[] = [];
		const subscription = await client.events.on("n", (event) => void seen.push(event.data), {
			onGap,
			onError: (error, { gap }) => gaps.push([(error as HubClientError).reason, gap]),
		});
		hub.publish("n", 0);
		await until(clock, () => seen.length === 1);
		hub.faults.down = true;
		hub.disconnect();
		for (let n = 1; n < 5; n++) hub.publish("n", n);
		hub.trimmedTo = 3n;
		hub.faults.down = false;
		await clock.advance(30_000);
		expect(gaps).toEqual([
			[
				"POSITION_TRIMMED",
				{ after: expect.objectContaining({ epoch: "e1", sequence: 1n }), metadata: { oldest_sequence: "4" } },
			],
		]);
		expect(seen).toEqual(onGap === "continue" ? [0, 3, 4] : [0]);
		if (onGap === "stop") expect((await subscription.closed)?.reason).toBe("POSITION_TRIMMED");
	});

	it("asks for a time again until an event has come, and then goes on behind it", async () => {
		const hub = new FakeHub();
		const { client, clock } = await open(hub);
		const seen: number[] = [];
		const start = new Date(clock.now() + 60_000);
		await client.events.on("n", (event) => void seen.push(event.data), { start });
		hub.disconnect();
		await until(clock, () => hub.subscribeRequests.length === 2);
		await until(clock, () => hub.openStreams === 1);
		hub.publish("n", 0);
		await until(clock, () => seen.length === 1);
		hub.disconnect();
		await until(clock, () => hub.subscribeRequests.length === 3);
		expect(hub.subscribeRequests.map(({ start }) => start?.from.case)).toEqual(["time", "time", "after"]);
	});

	it("calls onCaughtUp between history and news, once", async () => {
		const hub = new FakeHub();
		const { client, clock } = await open(hub);
		for (let n = 0; n < 5; n++) hub.publish("n", n);
		const seen: unknown[] = [];
		await client.events.on("n", (event) => void seen.push([event.data, event.isReplay]), {
			start: "everything",
			onCaughtUp: () => seen.push("caught up"),
		});
		await until(clock, () => seen.includes("caught up"));
		hub.publish("n", 5);
		hub.disconnect();
		await until(clock, () => seen.length === 7);
		expect(seen).toEqual([...[0, 1, 2, 3, 4].map((n) => [n, true]), "caught up", [5, false]]);
	});

	it("rejects what the hub refuses", async () => {
		const hub = new FakeHub();
		const { client } = await open(hub);
		hub.faults.refuse.set("Subscribe", { code: Code.PermissionDenied, reason: "INSUFFICIENT_PERMISSIONS", times: 1 });
		await expect(client.events.on("n", () => {})).rejects.toMatchObject({ reason: "INSUFFICIENT_PERMISSIONS" });
	});

	it("passes nothing after unsubscribe, even from a batch that it has", async () => {
		const hub = new FakeHub();
		const { client, clock } = await open(hub);
		const seen: number[] = [];
		const subscription = await client.events.on("n", (event) => {
			seen.push(event.data);
			if (event.data === 1) subscription.unsubscribe();
		});
		for (let n = 0; n < 6; n++) hub.publish("n", n);
		await subscription.closed;
		await until(clock, () => hub.openStreams === 0);
		expect(seen).toEqual([0, 1]);
	});
});

describe("once, replay, stream and list", () => {
	it("gives the next event, or IDLE_TIMEOUT", async () => {
		const hub = new FakeHub();
		const { client, clock } = await open(hub);
		const once = client.events.once("n");
		await until(clock, () => hub.openStreams === 1);
		hub.publish("other");
		hub.publish("n", 7);
		expect((await once).data).toBe(7);
		const late = client.events.once("n", { timeout: 1_000 }).catch((error: HubClientError) => error.reason);
		await clock.advance(1_000);
		expect(await late).toBe("IDLE_TIMEOUT");
		await until(clock, () => hub.openStreams === 0);
	});

	it("replays what is stored and ends, whatever happens to the connection", async () => {
		const hub = new FakeHub();
		const { client, clock } = await open(hub);
		for (let n = 0; n < 20; n++) hub.publish("n", n);
		hub.faults.breakAfterBatches = 1;
		const seen: number[] = [];
		const replay = (async () => {
			for await (const event of client.events.replay("n")) {
				expect(event.isReplay).toBe(true);
				seen.push(event.data);
			}
			return true;
		})();
		await until(clock, () => seen.length === 20);
		hub.faults.breakAfterBatches = 0;
		await clock.advance(20_000);
		expect(await replay).toBe(true);
		expect(seen).toEqual(Array.from({ length: 20 }, (_, n) => n));
	});

	it("streams until the loop is left, and resumes from the position of an event", async () => {
		const hub = new FakeHub();
		const { client } = await open(hub);
		for (let n = 0; n < 10; n++) hub.publish("n", n);
		const take = async (start: "everything" | HubEvent["position"], count: number) => {
			const events: HubEvent[] = [];
			for await (const event of client.events.stream("n", { start })) if (events.push(event) === count) break;
			return events;
		};
		const first = await take("everything", 4);
		const second = await take(first.at(-1)!.position, 6);
		expect([...first, ...second].map((event) => event.data)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
		await vi.waitFor(() => expect(hub.openStreams).toBe(0));
	});

	it("lists over pages", async () => {
		const hub = new FakeHub();
		const { client } = await open(hub);
		for (let n = 0; n < 10; n++) hub.publish("n", n);
		const seen: number[] = [];
		for await (const event of client.events.list("n", { pageSize: 3 })) seen.push(event.data);
		expect(seen).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
	});
});
