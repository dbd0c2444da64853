import { create, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { EventSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { OutboxPump } from "../../src/events/outbox-pump.ts";
import { outboxEventWrite } from "../../src/outbox/outbox.ts";
import { type KvStore, StorageError } from "../../src/state/kv-store.ts";
import type { LogStore } from "../../src/state/log-store.ts";
import { openMemoryState } from "../../src/state/memory/open-memory-state.ts";
import { eventually } from "../harness/eventually.ts";
import { FakeClock, SequentialIds } from "../harness/fake-clock.ts";
import { wrapKv } from "../harness/kv-wrapper.ts";

const WINDOW_MS = 120_000;

const entry = (id: string, type = "plugin.registered") =>
	outboxEventWrite({ id, type, event: toBinary(EventSchema, create(EventSchema, { id, type, source: "hub" })) });

async function open() {
	const clock = new FakeClock();
	const ids = new SequentialIds();
	const state = openMemoryState({ clock, ids });
	const log = await state.log("events", { rememberMs: WINDOW_MS });
	const faults: unknown[] = [];
	const pump = (kv: KvStore) => {
		const started = new OutboxPump({ kv, log, clock, ids, onFault: (error) => void faults.push(error) });
		started.start();
		return started;
	};
	const isEmpty = () => state.kv.range({ start: "outbox/", end: "outbox0", limit: 1 }).entries.length === 0;
	return { clock, state, log, faults, pump, isEmpty };
}

async function idsOf(log: LogStore): Promise<readonly string[]> {
	const page = await log.read({ from: { sequence: 1 }, maxRecords: 1000, maxBytes: 1 << 20 });
	return page.records.map((record) => record.id);
}

test("an event that was stored before a crash is not stored again, however long the hub was away", async () => {
	const { clock, state, log, faults, pump, isEmpty } = await open();
	const broken = wrapKv(state.kv, {
		async commit() {
			throw new StorageError("unavailable", "unknown", "the process ends here");
		},
	});
	await state.kv.commit({ id: "c1", writes: [entry("b"), entry("a", "plugin.online")] });
	{
		await using _before = pump(broken);
		await eventually(() => log.bounds().next === 3);
	}
	await clock.advance(10 * WINDOW_MS);
	await state.kv.commit({ id: "c2", writes: [entry("c")] });
	{
		await using _after = pump(state.kv);
		await eventually(isEmpty);
	}
	expect(await idsOf(log)).toEqual(["hub/b", "hub/a", "hub/c"]);
	expect(faults).toHaveLength(1);
	await state[Symbol.asyncDispose]();
});

test("an event whose entry cannot be deleted for longer than ids are remembered is stored once", async () => {
	const { clock, state, log, pump, isEmpty } = await open();
	let fails = true;
	const stubborn = wrapKv(state.kv, {
		async commit(commit) {
			if (fails) throw new StorageError("full", "not-written", "the disk is full");
			return await state.kv.commit(commit);
		},
	});
	await using _pump = pump(stubborn);
	await state.kv.commit({ id: "c1", writes: [entry("a")] });
	for (let round = 0; round < 10; round++) {
		await eventually(() => log.bounds().next > 1);
		await clock.advance(WINDOW_MS / 4);
	}
	fails = false;
	await clock.advance(1000);
	await eventually(isEmpty);
	expect(await idsOf(log)).toEqual(["hub/a"]);
	await state.kv.commit({ id: "c2", writes: [entry("b")] });
	await eventually(isEmpty);
	expect(await idsOf(log)).toEqual(["hub/a", "hub/b"]);
	await state[Symbol.asyncDispose]();
});

test("a store that is closed first does not keep the process busy", async () => {
	const { clock, state, pump } = await open();
	{
		await using _pump = pump(state.kv);
		await state[Symbol.asyncDispose]();
		await clock.advance(10_000);
	}
	expect(clock.pendingTimers).toBe(0);
});
