import { expect, test } from "vitest";
import { keys } from "../../src/state/key-layout.ts";
import { StorageError } from "../../src/state/kv-store.ts";
import type { LogStore } from "../../src/state/log-store.ts";
import { everything, subjectsOf } from "../harness/event-frames.ts";
import { EventHub } from "../harness/event-hub.ts";
import { eventually } from "../harness/eventually.ts";
import { lifecycleEvent } from "../harness/lifecycle-event.ts";

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
