import { afterEach, beforeEach, expect, test } from "vitest";
import { HubError } from "../../src/hub-error.ts";
import type { LogAppended, LogStore } from "../../src/state/log-store.ts";
import { EventHub, FakeCall, plugin } from "../harness/event-hub.ts";
import { eventually } from "../harness/eventually.ts";

let hub: EventHub;

beforeEach(async () => {
	hub = await EventHub.open();
});

afterEach(async () => {
	hub.assertNothingLeft();
	await hub[Symbol.asyncDispose]();
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
