import { create, toBinary } from "@bufbuild/protobuf";
import { afterEach, beforeEach, expect, test } from "vitest";
import { OutboxRecordSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import { EventSchema, type SubscribeResponse } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { HubError } from "../../src/hub-error.ts";
import { keys } from "../../src/state/key-layout.ts";
import { StorageError } from "../../src/state/kv-store.ts";
import type { LogAppended, LogStore } from "../../src/state/log-store.ts";
import { EventHub, FakeCall, operator, plugin } from "../harness/event-hub.ts";

let hub: EventHub;

beforeEach(async () => {
	hub = await EventHub.open();
});

afterEach(async () => {
	hub.assertNothingLeft();
	await hub[Symbol.asyncDispose]();
});

type Frames = AsyncGenerator<SubscribeResponse, void, undefined>;

async function next(frames: Frames): Promise<SubscribeResponse> {
	const { value, done } = await frames.next();
	if (done) throw new Error("the stream has ended");
	return value;
}

/** A subscription that has sent `ready` and `caught_up`. */
async function live(request: Parameters<EventHub["subscribe"]>[0], call?: FakeCall): Promise<Frames> {
	const frames = hub.subscribe(request, call);
	expect((await next(frames)).frame.case).toBe("ready");
	expect((await next(frames)).frame.case).toBe("caughtUp");
	return frames;
}

function subjectsOf(frame: SubscribeResponse): string[] {
	if (frame.frame.case !== "batch") throw new Error(`a ${frame.frame.case} frame`);
	return frame.frame.value.events.map((event) => event.subject);
}

async function failure(frames: Frames): Promise<HubError> {
	const error = await frames.next().then(
		() => undefined,
		(thrown) => thrown,
	);
	expect(error).toBeInstanceOf(HubError);
	return error;
}

const everything = { from: { case: "everything" as const, value: true } };

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

function lifecycleEvent(id: string, control?: { allow?: string[]; deny?: string[] }) {
	const json = JSON.stringify({ pluginId: "newcomer", capabilities: { accessControl: control } });
	const payload = { body: { case: "json" as const, value: json } };
	const event = create(EventSchema, { id, type: "plugin:registered", subject: "newcomer", source: "hub", payload });
	return toBinary(
		OutboxRecordSchema,
		create(OutboxRecordSchema, { id, topic: "plugin.registered", event: toBinary(EventSchema, event) }),
	);
}

async function eventually(condition: () => boolean): Promise<void> {
	for (let round = 0; round < 1000 && !condition(); round++) await new Promise((resolve) => setImmediate(resolve));
	expect(condition()).toBe(true);
}

test("moves the hub's own events to the log in the order of their commits, once", async () => {
	for (const id of ["z", "a", "m"]) {
		await hub.state.kv.commit({ id, writes: [{ key: keys.outboxEvent(id), value: lifecycleEvent(id) }] });
	}
	const isEmpty = () => hub.state.kv.range({ start: "outbox/", end: "outbox0", limit: 1 }).entries.length === 0;
	await eventually(() => isEmpty() && hub.log.bounds().next === 4);
	// As after a crash between the two steps.
	await hub.state.kv.commit({ id: "again", writes: [{ key: keys.outboxEvent("a"), value: lifecycleEvent("a") }] });
	await eventually(isEmpty);
	expect(hub.log.bounds().next).toBe(4);
	const { events } = await hub.listEvents({ patterns: ["plugin.**"] }, operator);
	expect(events.map((event) => [event.id, event.source, event.type])).toEqual([
		["z", "hub", "plugin:registered"],
		["a", "hub", "plugin:registered"],
		["m", "hub", "plugin:registered"],
	]);
	expect(hub.faults).toEqual([]);
});

test("shows a lifecycle event to those whom the plugin admits", async () => {
	const feeds = new Map<string, Frames>();
	for (const name of ["friend", "stranger", "enemy", "newcomer"]) {
		feeds.set(name, await live({ patterns: ["plugin.*"] }, new FakeCall(plugin(name))));
	}
	feeds.set("root", await live({ patterns: ["plugin.*"] }, new FakeCall(operator)));
	const events: [string, { allow?: string[]; deny?: string[] } | undefined][] = [
		["open", undefined],
		["allow", { allow: ["friend", "enemy"], deny: ["enemy"] }],
		["deny", { deny: ["enemy"] }],
		["nobody", { allow: ["*"], deny: ["*"] }],
	];
	const writes = events.map(([id, control]) => ({ key: keys.outboxEvent(id), value: lifecycleEvent(id, control) }));
	for (const [index, write] of writes.entries()) await hub.state.kv.commit({ id: `c${index}`, writes: [write] });
	await eventually(() => hub.log.bounds().next === 5);
	const seen: Record<string, string[]> = {};
	const listed: Record<string, string[]> = {};
	for (const [name, frames] of feeds) {
		const frame = await next(frames);
		seen[name] = frame.frame.case === "batch" ? frame.frame.value.events.map((event) => event.id) : [];
		await frames.return();
		const page = await hub.listEvents({ patterns: ["**"] }, name === "root" ? operator : plugin(name));
		listed[name] = page.events.map((event) => event.id);
	}
	expect(seen).toEqual({
		friend: ["open", "allow", "deny"],
		stranger: ["open", "deny"],
		enemy: ["open"],
		newcomer: ["open", "allow", "deny", "nobody"],
		root: ["open", "allow", "deny", "nobody"],
	});
	expect(listed).toEqual(seen);
});

test("drops history beyond its bounds", async () => {
	const small = await EventHub.open({ retention: { maxRecords: 300 } });
	for (let index = 0; index < 2000; index++) await small.emit({ type: "a" });
	expect(small.log.bounds().first).toBe(1);
	await small.clock.advance(30_000);
	expect(small.log.bounds().next - small.log.bounds().first).toBeLessThan(700);
	await small[Symbol.asyncDispose]();
});

/** A log whose appends settle when the test says so. */
function gated(log: LogStore): LogStore & { readonly waiting: (() => void)[] } {
	const waiting: (() => void)[] = [];
	return {
		waiting,
		capabilities: log.capabilities,
		epoch: log.epoch,
		bounds: () => log.bounds(),
		append: async (records): Promise<readonly LogAppended[]> => {
			await new Promise<void>((resolve) => void waiting.push(resolve));
			return log.append(records);
		},
		read: (query) => log.read(query),
		tail: (listener) => log.tail(listener),
		trim: (retention) => log.trim(retention),
	};
}

test("stops reading a publisher whose events are not stored yet, and acknowledges in order", async () => {
	let log: ReturnType<typeof gated> | undefined;
	const slow = await EventHub.open({
		wrapLog: (inner) => {
			log = gated(inner);
			return log;
		},
	});
	let read = 0;
	async function* batches() {
		for (; read < 1000; read++) yield { batchId: BigInt(read), events: [{ type: "a" }] };
	}
	const acknowledged: bigint[] = [];
	const all = (async () => {
		for await (const { frame } of slow.emitStream(batches())) {
			if (frame.case === "acknowledgement") acknowledged.push(frame.value.batchId);
		}
	})();
	await eventually(() => read >= 256);
	for (let round = 0; round < 50; round++) await new Promise((resolve) => setImmediate(resolve));
	expect(read).toBeLessThan(260);
	expect(acknowledged).toEqual([]);
	// Settled out of order.
	log!.waiting.reverse();
	while (acknowledged.length < 1000) {
		for (const settle of log!.waiting.splice(0)) settle();
		await new Promise((resolve) => setImmediate(resolve));
	}
	await all;
	expect(acknowledged).toEqual(Array.from({ length: 1000 }, (_, index) => BigInt(index)));
	slow.assertNothingLeft();
	await slow[Symbol.asyncDispose]();
});

test("acknowledges what came before a request that cannot be read", async () => {
	async function* batches() {
		yield { batchId: 1n, events: [{ type: "a" }] };
		yield { batchId: 2n, events: [] };
	}
	const frames: (string | undefined)[] = [];
	const reading = (async () => {
		for await (const { frame } of hub.emitStream(batches())) frames.push(frame.case);
	})();
	await expect(reading).rejects.toMatchObject({ reason: "INVALID_FIELD", metadata: { field: "events" } });
	expect(frames).toEqual(["ready", "acknowledgement"]);
});

test("a publishing stream beats, and is told when it is revoked or the hub stops", async () => {
	for (const ending of ["revoked", "draining"] as const) {
		const call = new FakeCall(plugin("weather"));
		const open = Promise.withResolvers<void>();
		async function* batches() {
			await open.promise;
			yield { batchId: 1n, events: [] };
		}
		const frames = hub.emitStream(batches(), call);
		expect((await frames.next()).value?.frame.case).toBe("ready");
		const beat = frames.next();
		await hub.clock.advance(15_001);
		expect((await beat).value?.frame.case).toBe("heartbeat");
		const last = frames.next();
		if (ending === "draining") call.controller.abort(new HubError("HUB_DRAINING", "stopping"));
		else for (const stream of hub.streams.open_) stream.revoke(new HubError("CREDENTIAL_EXPIRED", "expired"));
		expect((await last).value?.frame.case).toBe(ending);
		await expect(frames.next()).rejects.toMatchObject({
			reason: ending === "draining" ? "HUB_DRAINING" : "CREDENTIAL_EXPIRED",
		});
		open.resolve();
	}
});

test("a publisher that the hub leaves is told first what was stored", async () => {
	let log: ReturnType<typeof gated> | undefined;
	const slow = await EventHub.open({
		wrapLog: (inner) => {
			log = gated(inner);
			return log;
		},
	});
	const call = new FakeCall(plugin("weather"));
	const open = Promise.withResolvers<void>();
	async function* batches() {
		yield { batchId: 1n, events: [{ type: "a" }] };
		await open.promise;
	}
	const frames = slow.emitStream(batches(), call);
	await frames.next();
	const second = frames.next();
	await eventually(() => log!.waiting.length === 1);
	call.controller.abort(new HubError("HUB_DRAINING", "stopping"));
	log!.waiting[0]!();
	expect((await second).value?.frame).toMatchObject({ case: "acknowledgement", value: { batchId: 1n, stored: 1 } });
	expect((await frames.next()).value?.frame.case).toBe("draining");
	await expect(frames.next()).rejects.toMatchObject({ reason: "HUB_DRAINING" });
	open.resolve();
	slow.assertNothingLeft();
	await slow[Symbol.asyncDispose]();
});

/** A log that fails what the test names, as often as it says, and loses the batches that it is told to. */
function faulty(log: LogStore): LogStore & { failAppends: number; failReads: number; loseBatches: number } {
	const unavailable = () => new StorageError("unavailable", "not-written", "not now");
	return {
		failAppends: 0,
		failReads: 0,
		loseBatches: 0,
		capabilities: log.capabilities,
		epoch: log.epoch,
		bounds: () => log.bounds(),
		async append(records) {
			if (this.failAppends-- > 0) throw unavailable();
			return log.append(records);
		},
		async read(query) {
			if (this.failReads-- > 0) throw unavailable();
			return log.read(query);
		},
		tail(listener) {
			return log.tail((batch) => {
				if (this.loseBatches-- > 0) return;
				listener(batch);
			});
		},
		trim: (retention) => log.trim(retention),
	};
}

async function openFaulty(): Promise<{ hub: EventHub; log: ReturnType<typeof faulty> }> {
	let log: ReturnType<typeof faulty> | undefined;
	const opened = await EventHub.open({
		wrapLog: (inner) => {
			log = faulty(inner);
			return log;
		},
	});
	return { hub: opened, log: log! };
}

test("tries again to move the outbox when the log does not take it", async () => {
	const { hub: broken, log } = await openFaulty();
	log.failAppends = 2;
	const write = { key: keys.outboxEvent("a"), value: lifecycleEvent("a") };
	await broken.state.kv.commit({ id: "c", writes: [write] });
	await eventually(() => broken.faults.length === 1);
	await broken.clock.advance(500);
	expect(broken.faults).toHaveLength(2);
	expect(broken.log.bounds().next).toBe(1);
	await broken.clock.advance(500);
	expect(broken.log.bounds().next).toBe(2);
	expect(broken.state.kv.get(write.key)).toBeUndefined();
	await broken[Symbol.asyncDispose]();
});

test("tries again to read the log at one time, however often a batch made it try in between", async () => {
	const { hub: broken, log } = await openFaulty();
	const frames = broken.subscribe({ patterns: ["a"] });
	for (let index = 0; index < 2; index++) await frames.next();
	const waiting = frames.next();
	await broken.clock.advance(1);
	const timers = broken.clock.pendingTimers;
	log.loseBatches = 1;
	log.failReads = 3;
	for (const subject of ["lost", "1", "2", "3"]) await broken.emit({ type: "a", subject });
	await eventually(() => broken.faults.length === 3);
	await broken.clock.advance(0);
	expect(broken.clock.pendingTimers).toBe(timers + 1);
	await broken.clock.advance(250);
	const { value } = await waiting;
	expect(value && subjectsOf(value)).toEqual(["lost", "1", "2", "3"]);
	await frames.return();
	await broken[Symbol.asyncDispose]();
});

test("live delivery goes on after the log could not be read for a while", async () => {
	const { hub: broken, log } = await openFaulty();
	const frames = broken.subscribe({ patterns: ["a"] });
	for (let index = 0; index < 2; index++) await frames.next();
	const waiting = frames.next();
	await broken.clock.advance(1);
	log.loseBatches = 1;
	log.failReads = 1;
	await broken.emit({ type: "a", subject: "lost" });
	await broken.emit({ type: "a", subject: "told" });
	await eventually(() => broken.faults.length === 1);
	await broken.clock.advance(250);
	const { value } = await waiting;
	expect(value && subjectsOf(value)).toEqual(["lost", "told"]);
	await frames.return();
	broken.assertNothingLeft();
	await broken[Symbol.asyncDispose]();
});

test("a reader whose log cannot be read is told so", async () => {
	const { hub: broken, log } = await openFaulty();
	await broken.emit({ type: "a" });
	const frames = broken.subscribe({ patterns: ["a"], start: everything });
	await frames.next();
	log.failReads = 1;
	await expect(frames.next()).rejects.toBeInstanceOf(StorageError);
	broken.assertNothingLeft();
	await broken[Symbol.asyncDispose]();
});
