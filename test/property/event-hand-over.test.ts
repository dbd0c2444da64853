import fc from "fast-check";
import { expect, test } from "vitest";
import type { SubscribeResponse } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { HubError } from "../../src/hub-error.ts";
import type { LogStore, StoredRecord } from "../../src/state/log-store.ts";
import { EventHub } from "../harness/event-hub.ts";

/** Lets the other side of the race run for a while. */
async function ticks(count: number): Promise<void> {
	for (let index = 0; index < count; index++) await new Promise((resolve) => setImmediate(resolve));
}

/** Endless, from a list that the property chose. */
function cycle<T>(values: readonly T[]): () => T {
	let at = 0;
	return () => values[at++ % values.length]!;
}

type TailFate = "now" | "late" | "lost";

interface UnreliableLog extends LogStore {
	/** Tells the tails what they were not told yet, and everything at once from then on. */
	recover(): void;
}

/**
 * A log that is slow to read, tells its tails late and out of step with its bounds, and sometimes not at all, as one that
 * is fed from elsewhere does.
 */
function unreliable(log: LogStore, readTicks: () => number, fate: () => TailFate): UnreliableLog {
	let isReliable = false;
	const held: (readonly StoredRecord[])[] = [];
	let hear: (batch: readonly StoredRecord[]) => void = () => {};
	const flush = () => {
		for (const batch of held.splice(0)) hear(batch);
	};
	return {
		recover() {
			isReliable = true;
			flush();
		},
		capabilities: log.capabilities,
		epoch: log.epoch,
		bounds: () => log.bounds(),
		append: (records) => log.append(records),
		async read(query) {
			await ticks(readTicks());
			const page = await log.read({ ...query, maxRecords: Math.min(query.maxRecords, 3) });
			await ticks(readTicks());
			return page;
		},
		tail(listener) {
			hear = listener;
			return log.tail((batch) => {
				const chosen = isReliable ? "now" : fate();
				if (chosen === "lost") return;
				held.push(batch);
				if (chosen === "now") flush();
			});
		},
		trim: (retention) => log.trim(retention),
	};
}

interface Session {
	/** Frames that are taken before the connection drops. */
	readonly frames: number;
}

interface Run {
	readonly before: readonly string[];
	readonly start: "new" | "everything" | "time";
	readonly bursts: readonly { readonly types: readonly string[]; readonly pause: number }[];
	readonly sessions: readonly Session[];
	readonly readerPauses: readonly number[];
	readonly readPauses: readonly number[];
	readonly fates: readonly TailFate[];
	readonly patterns: readonly string[];
	readonly filter: string;
	readonly bufferRuns: number;
}

const types = fc.constantFrom("a.x", "a:y", "b.x", "c");

const runs: fc.Arbitrary<Run> = fc.record({
	before: fc.array(types, { maxLength: 12 }),
	start: fc.constantFrom("new", "everything", "time"),
	bursts: fc.array(fc.record({ types: fc.array(types, { maxLength: 9 }), pause: fc.nat(3) }), { maxLength: 12 }),
	sessions: fc.array(fc.record({ frames: fc.integer({ min: 1, max: 6 }) }), { maxLength: 5 }),
	readerPauses: fc.array(fc.nat(4), { minLength: 1, maxLength: 6 }),
	readPauses: fc.array(fc.nat(2), { minLength: 1, maxLength: 6 }),
	fates: fc.array(fc.constantFrom<TailFate>("now", "now", "late", "lost"), { minLength: 1, maxLength: 8 }),
	patterns: fc.constantFrom(["**"], ["a.*"], ["a.x", "*.x"], ["end", "a.y"]),
	filter: fc.constantFrom("", "", "event.subject != '3'"),
	bufferRuns: fc.integer({ min: 1, max: 4 }),
});

function matches(patterns: readonly string[], type: string): boolean {
	const [first, second] = type.split(/[.:]/);
	return patterns.some((pattern) => {
		if (pattern === "**") return true;
		const tokens = pattern.split(".");
		if (tokens.length !== (second === undefined ? 1 : 2)) return false;
		return (
			(tokens[0] === "*" || tokens[0] === first) && (tokens.length === 1 || tokens[1] === "*" || tokens[1] === second)
		);
	});
}

interface Seen {
	readonly sequence: number;
	readonly type: string;
	readonly isReplay: boolean;
	/** The ends of the log before the subscription was asked for and after it was ready. */
	readonly began: readonly [earliest: number, latest: number];
}

async function execute(run: Run): Promise<{ seen: readonly Seen[]; expected: readonly number[] }> {
	let log: UnreliableLog | undefined;
	const hub = await EventHub.open({
		subscriptions: { bufferRuns: run.bufferRuns },
		wrapLog: (inner) => {
			log = unreliable(inner, cycle(run.readPauses), cycle(run.fates));
			return log;
		},
	});
	const published: { sequence: number; type: string; subject: string }[] = [];
	const publish = async (type: string) => {
		const subject = String(published.length % 5);
		const { position } = await hub.emit({ type, subject });
		published.push({ sequence: Number(position!.sequence), type, subject });
	};
	for (const type of run.before) await publish(type);
	const first = run.start === "new" ? published.length + 1 : 1;
	const seen: Seen[] = [];
	const patterns = [...run.patterns, "end"];

	let isSubscribed: () => void = () => {};
	const subscribed = new Promise<void>((resolve) => {
		isSubscribed = resolve;
	});
	const reader = (async () => {
		const pause = cycle(run.readerPauses);
		let resume: SubscribeResponse["position"];
		for (let session = 0; ; session++) {
			const most = run.sessions[session]?.frames ?? Number.POSITIVE_INFINITY;
			const earliest = hub.log.bounds().next;
			let latest = earliest;
			const frames = hub.subscribe({ patterns, filter: run.filter, start: { from: startOf(hub, run, resume) } });
			let taken = 0;
			for await (const frame of frames) {
				isSubscribed();
				if (taken === 0) latest = hub.log.bounds().next;
				resume = frame.position;
				for (const event of frame.frame.case === "batch" ? frame.frame.value.events : []) {
					seen.push({
						sequence: Number(event.sequence),
						type: event.type,
						isReplay: event.isReplay,
						began: [earliest, latest],
					});
					if (event.type === "end") return;
				}
				if (++taken >= most) break;
				await ticks(pause());
			}
		}
	})();
	reader.catch(() => isSubscribed());

	await subscribed;
	for (const burst of run.bursts) {
		for (const type of burst.types) await publish(type);
		await ticks(burst.pause);
	}
	await publish("end");
	// What the tail held back or lost is made up for by the batch after it.
	log!.recover();
	await publish("none");
	await reader;
	hub.assertNothingLeft();
	expect(hub.faults).toEqual([]);
	await hub[Symbol.asyncDispose]();
	const expected = published
		.filter(({ sequence, type }) => sequence >= first && matches(patterns, type))
		.filter(({ subject }) => run.filter === "" || subject !== "3")
		.map(({ sequence }) => sequence);
	return { seen, expected };
}

function startOf(hub: EventHub, run: Run, resume: SubscribeResponse["position"]) {
	if (resume !== undefined) return { case: "after" as const, value: resume };
	if (run.start === "everything") return { case: "everything" as const, value: true };
	if (run.start === "new") return { case: "newOnly" as const, value: true };
	return { case: "time" as const, value: { seconds: BigInt(Math.floor(hub.clock.now() / 1000)) } };
}

test("history, hand-over and live events make one gapless feed, whatever the interleaving", async () => {
	await fc.assert(
		fc.asyncProperty(runs, async (run) => {
			// A filter that drops the last event would leave the reader waiting.
			fc.pre(run.filter === "" || (run.before.length + run.bursts.flatMap((burst) => burst.types).length) % 5 !== 3);
			const { seen, expected } = await execute(run);
			const end = seen.at(-1)!.sequence;
			expect(seen.map(({ sequence }) => sequence)).toEqual(expected.filter((sequence) => sequence <= end));
			for (const { sequence, isReplay, began } of seen) {
				if (isReplay) expect(sequence).toBeLessThan(began[1]);
				else expect(sequence).toBeGreaterThanOrEqual(began[0]);
			}
		}),
		{ numRuns: 300 },
	);
});

test("a reader that a burst overtakes is given all of it from the log", async () => {
	const hub = await EventHub.open({ subscriptions: { bufferRuns: 1, bufferBytes: 2048 } });
	const frames = hub.subscribe({ patterns: ["**"] });
	for (let index = 0; index < 2; index++) await frames.next();
	const waiting = frames.next();
	const count = 5000;
	for (let index = 0; index < count; index++) await hub.emit({ type: "a.b", subject: "x".repeat(100) });
	const seen: number[] = [];
	for (let frame = await waiting; !frame.done; frame = await frames.next()) {
		if (frame.value.frame.case !== "batch") continue;
		seen.push(...frame.value.frame.value.events.map((event) => Number(event.sequence)));
		if (seen.length >= count) break;
	}
	expect(seen).toEqual(Array.from({ length: count }, (_, index) => index + 1));
	await frames.return();
	hub.assertNothingLeft();
	await hub[Symbol.asyncDispose]();
});

test("a resumed feed says so where its position is no longer kept", async () => {
	const hub = await EventHub.open();
	for (let index = 0; index < 1000; index++) await hub.emit({ type: "a" });
	await hub.log.trim({ maxRecords: 10 });
	const { first } = hub.log.bounds();
	expect(first).toBeGreaterThan(1);
	const value = { epoch: hub.log.epoch, sequence: BigInt(first - 2) };
	const frames = hub.subscribe({ patterns: ["a"], start: { from: { case: "after", value } } });
	const error = await frames.next().catch((thrown) => thrown);
	expect(error).toBeInstanceOf(HubError);
	expect(error).toMatchObject({
		reason: "POSITION_TRIMMED",
		metadata: { epoch: hub.log.epoch, oldest_sequence: String(first) },
	});
	await hub[Symbol.asyncDispose]();
});
