import { afterEach, beforeEach, expect, test } from "vitest";
import { HubError } from "../../src/hub-error.ts";
import { everything, type Frames, failure, next, openLive, subjectsOf } from "../harness/event-frames.ts";
import { EventHub, FakeCall, operator, plugin } from "../harness/event-hub.ts";

let hub: EventHub;

beforeEach(async () => {
	hub = await EventHub.open();
});

afterEach(async () => {
	hub.assertNothingLeft();
	await hub[Symbol.asyncDispose]();
});

const live = (request: Parameters<EventHub["subscribe"]>[0], call?: FakeCall) => openLive(hub, request, call);

test("a replay ends once it has caught up, and leaves the live feed alone", async () => {
	for (const subject of ["1", "2"]) await hub.emit({ type: "a", subject });
	const frames = hub.subscribe({ patterns: ["a"], start: everything, live: false });
	await next(frames);
	await hub.emit({ type: "a", subject: "3" });
	expect(subjectsOf(await next(frames))).toEqual(["1", "2"]);
	expect((await next(frames)).frame.case).toBe("caughtUp");
	expect((await frames.next()).done).toBe(true);
});

test("starts at a time", async () => {
	await hub.emit({ type: "a", subject: "early" });
	await hub.clock.advance(1000);
	const time = { seconds: BigInt(hub.clock.now() / 1000), nanos: 0 };
	await hub.emit({ type: "a", subject: "late" });
	const frames = hub.subscribe({ patterns: ["a"], start: { from: { case: "time", value: time } }, live: false });
	await next(frames);
	expect(subjectsOf(await next(frames))).toEqual(["late"]);
	await frames.return();
});

test("starts at a time to come", async () => {
	await hub.clock.advance(1000 - (hub.clock.now() % 1000));
	const time = { seconds: BigInt(hub.clock.now() / 1000 + 2), nanos: 0 };
	const frames = await live({ patterns: ["a"], start: { from: { case: "time", value: time } } });
	const first = next(frames);
	await hub.emit({ type: "a", subject: "early" });
	await hub.clock.advance(1000);
	await hub.emit({ type: "a", subject: "early still" });
	await hub.clock.advance(1000);
	await hub.emit({ type: "a", subject: "in time" });
	expect(subjectsOf(await first)).toEqual(["in time"]);
	await hub.emit({ type: "a", subject: "late" });
	expect(subjectsOf(await next(frames))).toEqual(["late"]);
	await frames.return();
});

test("ends after as many events as were asked for", async () => {
	for (const subject of ["1", "2", "3"]) await hub.emit({ type: "a", subject });
	const past = hub.subscribe({ patterns: ["a"], start: everything, limit: 2 });
	await next(past);
	expect(subjectsOf(await next(past))).toEqual(["1", "2"]);
	expect((await past.next()).done).toBe(true);
	const once = await live({ patterns: ["a"], limit: 1 });
	for (const subject of ["4", "5"]) await hub.emit({ type: "a", subject });
	expect(subjectsOf(await next(once))).toEqual(["4"]);
	expect((await once.next()).done).toBe(true);
});

test("ends a wait in which nothing came, counting from the last event", async () => {
	const frames = await live({ patterns: ["a"], idleTimeout: { seconds: 10n } });
	const first = frames.next();
	await hub.clock.advance(9000);
	await hub.emit({ type: "a" });
	await first;
	const second = failure(frames);
	await hub.clock.advance(9000);
	await hub.emit({ type: "b" });
	await hub.clock.advance(1001);
	expect(await second).toMatchObject({ reason: "IDLE_TIMEOUT", metadata: { epoch: hub.log.epoch, sequence: "2" } });
});

test("says that it is alive, and that it has moved past what does not match", async () => {
	const frames = await live({ patterns: ["a"] });
	await hub.emit({ type: "b" });
	const waiting = next(frames);
	await hub.clock.advance(15_000);
	const frame = await waiting;
	expect(frame).toMatchObject({ frame: { case: "heartbeat" }, position: { epoch: hub.log.epoch, sequence: 1n } });
	await frames.return();
});

test("delivers what its filter admits and counts what it could not judge", async () => {
	const call = new FakeCall(plugin("watcher"));
	const frames = await live({ patterns: ["a"], filter: "event.data.t > 20" }, call);
	for (const json of ['{"t":10}', "{}", '{"t":30}']) {
		await hub.emit({ type: "a", subject: json, payload: { body: { case: "json", value: json } } });
	}
	const frame = await next(frames);
	expect(subjectsOf(frame)).toEqual(['{"t":30}']);
	expect(frame.position?.sequence).toBe(3n);
	const [shown] = (await hub.listSubscriptions({}, operator)).subscriptions;
	expect(shown).toMatchObject({ filter: "event.data.t > 20", delivered: 1n, filterErrors: 1n, lag: 0n });
	await frames.return();
});

test("wakes readers of higher priority first", async () => {
	const order: string[] = [];
	const waiting: Promise<void>[] = [];
	const open: Frames[] = [];
	for (const [name, priority] of [
		["low", -5],
		["high", 100],
		["usual", 0],
	] as const) {
		const frames = await live({ patterns: ["a"], priority }, new FakeCall(plugin(name)));
		open.push(frames);
		waiting.push(next(frames).then(() => void order.push(name)));
	}
	await hub.clock.advance(1);
	await hub.emit({ type: "a" });
	await Promise.all(waiting);
	expect(order).toEqual(["high", "usual", "low"]);
	for (const frames of open) await frames.return();
});

test("tells a subscriber whose right is gone, and ends it", async () => {
	const frames = await live({ patterns: ["a"] });
	const waiting = next(frames);
	const [stream] = hub.streams.open_;
	expect(() => stream!.recheck()).not.toThrow();
	hub.guard.deny = () => {
		throw new HubError("INSUFFICIENT_PERMISSIONS", "no grant");
	};
	expect(() => stream!.recheck()).toThrow("no grant");
	stream!.revoke(new HubError("PERMISSION_REVOKED", "no longer permitted"));
	expect((await waiting).frame).toMatchObject({
		case: "revoked",
		value: { reason: "PERMISSION_REVOKED", message: "no longer permitted" },
	});
	expect((await failure(frames)).reason).toBe("PERMISSION_REVOKED");
});

test("tells a subscriber that the hub is stopping, and where to resume", async () => {
	const call = new FakeCall(plugin("watcher"));
	const frames = await live({ patterns: ["a"] }, call);
	await hub.emit({ type: "a" });
	await next(frames);
	const waiting = next(frames);
	call.controller.abort(new HubError("HUB_DRAINING", "stopping"));
	expect((await waiting).frame.case).toBe("draining");
	const error = await failure(frames);
	expect(error).toMatchObject({ reason: "HUB_DRAINING", metadata: { epoch: hub.log.epoch, sequence: "1" } });
});

test("gives up everything when its caller is gone, though nobody pulls any more", async () => {
	const call = new FakeCall(plugin("watcher"));
	await live({ patterns: ["a"] }, call);
	call.controller.abort(new HubError("CANCELLED", "gone"));
	hub.assertNothingLeft();
});

test("ends a subscriber that takes nothing while others are served", async () => {
	const small = await EventHub.open({ subscriptions: { stalledLag: 100, bufferRuns: 4 } });
	const stalled = small.subscribe({ patterns: ["a"] });
	for (let index = 0; index < 2; index++) await stalled.next();
	const healthy = small.subscribe({ patterns: ["a"] });
	for (let index = 0; index < 2; index++) await healthy.next();
	const first = stalled.next();
	await small.emit({ type: "a" });
	expect((await first).value?.frame.case).toBe("batch");
	let got = 0;
	for (let index = 0; index < 200; index++) {
		const pulled = healthy.next();
		await small.emit({ type: "a" });
		const { value } = await pulled;
		if (value?.frame.case === "batch") got += value.frame.value.events.length;
	}
	expect(got).toBeGreaterThan(190);
	const waiting = healthy.next();
	await small.clock.advance(29_000);
	expect(small.bus.subscriptions.size).toBe(2);
	await small.clock.advance(2_000);
	expect(small.bus.subscriptions.size).toBe(1);
	const error = await failure(stalled);
	expect(error).toMatchObject({ reason: "SLOW_CONSUMER", metadata: { epoch: small.log.epoch, sequence: "1" } });
	const resume = { epoch: error.metadata.epoch!, sequence: BigInt(error.metadata.sequence!) };
	const again = small.subscribe({ patterns: ["a"], start: { from: { case: "after", value: resume } }, live: false });
	await again.next();
	const rest = (await again.next()).value;
	expect(rest?.frame.case === "batch" ? rest.frame.value.events.length : 0).toBe(200);
	await waiting;
	for (const frames of [again, healthy]) await frames.return();
	small.assertNothingLeft();
	await small[Symbol.asyncDispose]();
});

test("ends a reader whose history is dropped before it gets there", async () => {
	for (let index = 0; index < 2000; index++) await hub.emit({ type: "a" });
	const frames = hub.subscribe({ patterns: ["a"], start: everything });
	await next(frames);
	await next(frames);
	await hub.log.trim({ maxRecords: 100 });
	expect(await failure(frames)).toMatchObject({ reason: "SLOW_CONSUMER", metadata: { sequence: "512" } });
});

test("drops history beyond its bounds", async () => {
	const small = await EventHub.open({ retention: { maxRecords: 300 } });
	for (let index = 0; index < 2000; index++) await small.emit({ type: "a" });
	expect(small.log.bounds().first).toBe(1);
	await small.clock.advance(30_000);
	expect(small.log.bounds().next - small.log.bounds().first).toBeLessThan(700);
	await small[Symbol.asyncDispose]();
});
