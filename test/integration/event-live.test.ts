import { afterEach, beforeEach, expect, test } from "vitest";
import type { SubscribeResponse } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { EventHub, operator, plugin } from "../harness/event-hub.ts";

let hub: EventHub;

beforeEach(async () => {
	hub = await EventHub.open();
});

afterEach(async () => {
	hub.assertNothingLeft();
	await hub[Symbol.asyncDispose]();
});

async function next(frames: AsyncGenerator<SubscribeResponse>): Promise<SubscribeResponse> {
	const { value, done } = await frames.next();
	if (done) throw new Error("the stream has ended");
	return value;
}

function typesOf(frame: SubscribeResponse): string[] {
	if (frame.frame.case !== "batch") throw new Error(`a ${frame.frame.case} frame`);
	return frame.frame.value.events.map((event) => event.type);
}

const json = (value: unknown) => ({ body: { case: "json" as const, value: JSON.stringify(value) } });

test("delivers what is published after ready, with what the hub stamps", async () => {
	const frames = hub.subscribe({ patterns: ["weather.*"] });
	const ready = await next(frames);
	expect(ready.frame.case).toBe("ready");
	expect(ready.position).toMatchObject({ epoch: hub.log.epoch, sequence: 0n });
	const answer = await hub.emit({ id: "e1", type: "weather:changed", payload: json({ t: 21 }) });
	expect(answer).toMatchObject({ id: "e1", duplicate: false, position: { epoch: hub.log.epoch, sequence: 1n } });
	const seen: SubscribeResponse[] = [await next(frames)];
	if (seen[0]?.frame.case === "batch") seen.push(await next(frames));
	else seen.unshift(await next(frames));
	const batch = seen.find((frame) => frame.frame.case === "batch")!;
	if (batch.frame.case !== "batch") throw new Error("no batch");
	expect(batch.frame.value.events[0]).toMatchObject({
		id: "e1",
		type: "weather:changed",
		source: "weather",
		sequence: 1n,
		isReplay: false,
		hubTime: { seconds: BigInt(hub.clock.now() / 1000), nanos: 0 },
		payload: { body: { case: "json", value: '{"t":21}' } },
	});
	expect(batch.position?.sequence).toBe(1n);
	await frames.return();
});

test("gives what waits as one batch, and one event under two patterns once", async () => {
	const frames = hub.subscribe({ patterns: ["a.**", "a.b"] });
	await next(frames);
	expect((await next(frames)).frame.case).toBe("caughtUp");
	for (const type of ["a.b", "a:b", "c", "a.c"]) await hub.emit({ type });
	expect(typesOf(await next(frames))).toEqual(["a.b", "a:b", "a.c"]);
	await frames.return();
});

test("spreads what one frame has no room for over the next, and each says where to go on", async () => {
	const frames = hub.subscribe({ patterns: ["**"], filter: "" });
	for (let index = 0; index < 2; index++) await next(frames);
	async function* batches() {
		yield { batchId: 1n, events: Array.from({ length: 1000 }, () => ({ type: "a" })) };
		yield { batchId: 2n, events: Array.from({ length: 30 }, () => ({ type: "b", subject: "x".repeat(500) })) };
	}
	const waiting = next(frames);
	for await (const _ of hub.emitStream(batches()));
	const seen: bigint[] = [];
	let count = 0;
	for (let frame = await waiting; ; frame = await next(frames)) {
		if (frame.frame.case !== "batch") throw new Error(`a ${frame.frame.case} frame`);
		count++;
		seen.push(...frame.frame.value.events.map((event) => event.sequence));
		expect(frame.position?.sequence).toBe(seen.at(-1));
		if (seen.length >= 1030) break;
	}
	expect(count).toBeGreaterThan(1);
	expect(seen).toEqual(Array.from({ length: 1030 }, (_, index) => BigInt(index + 1)));
	await frames.return();
});

test("replays history marked as such and then goes live", async () => {
	await hub.emit({ type: "a.1" });
	await hub.emit({ type: "b" });
	await hub.emit({ type: "a.2" });
	const frames = hub.subscribe({ patterns: ["a.*"], start: { from: { case: "everything", value: true } } });
	await next(frames);
	const batch = await next(frames);
	expect(typesOf(batch)).toEqual(["a.1", "a.2"]);
	if (batch.frame.case === "batch")
		expect(batch.frame.value.events.map((event) => event.isReplay)).toEqual([true, true]);
	expect((await next(frames)).frame.case).toBe("caughtUp");
	await hub.emit({ type: "a.3" });
	expect(typesOf(await next(frames))).toEqual(["a.3"]);
	expect(hub.guard.asked.slice(3)).toEqual(["subscribe", "replay", "emit"]);
	await frames.return();
});

test("publishes batches and acknowledges them in order, entry by entry", async () => {
	await hub.emit({ id: "known", type: "a" });
	async function* batches() {
		yield { batchId: 7n, events: [{ type: "a" }, { id: "known", type: "a" }, { type: "a b" }, { type: "a" }] };
		yield { batchId: 8n, events: [{ id: "known", type: "b" }] };
	}
	const frames = [];
	for await (const frame of hub.emitStream(batches())) frames.push(frame.frame);
	expect(frames.map((frame) => frame.case)).toEqual(["ready", "acknowledgement", "acknowledgement"]);
	expect(frames[1]?.value).toMatchObject({ batchId: 7n, firstSequence: 2n, stored: 2, epoch: hub.log.epoch });
	const first = frames[1]?.case === "acknowledgement" ? frames[1].value.exceptions : [];
	expect(first).toMatchObject([
		{ index: 1, outcome: { case: "duplicateOf", value: 1n } },
		{
			index: 2,
			outcome: {
				case: "error",
				value: { code: 3, reason: "INVALID_EVENT_TYPE", metadata: { field: "events[2].type" } },
			},
		},
	]);
	const second = frames[2]?.case === "acknowledgement" ? frames[2].value : undefined;
	expect(second).toMatchObject({ batchId: 8n, firstSequence: 0n, stored: 0 });
	expect(second?.exceptions).toMatchObject([
		{ index: 0, outcome: { case: "error", value: { code: 10, reason: "ID_REUSED" } } },
	]);
});

test("lists open subscriptions, a plugin's own or all for an operator", async () => {
	const mine = hub.subscribe({ patterns: ["a"], priority: 3, filter: "event.type == 'a'" });
	await next(mine);
	await hub.emit({ type: "a" });
	expect((await hub.listSubscriptions({}, plugin("other"))).subscriptions).toEqual([]);
	const [shown] = (await hub.listSubscriptions({}, operator)).subscriptions;
	expect(shown).toMatchObject({
		pluginId: "watcher",
		patterns: ["a"],
		priority: 3,
		live: true,
		lag: 1n,
		delivered: 0n,
	});
	await mine.return();
	expect((await hub.listSubscriptions({}, operator)).subscriptions).toEqual([]);
});
