import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { LogAppended, LogRecord, LogRetention, LogStore, StoredRecord } from "../../src/state/log-store.ts";
import { backends, type OpenedState } from "../harness/state-backends.ts";

const TOPICS = ["a", "a.b", "a.c", "ü.x", "rare"];
const REMEMBER_MS = 10_000;
const RUNS = Number(process.env.PROPERTY_RUNS ?? 40);

type Step =
	| { readonly kind: "appends"; readonly batches: readonly (readonly LogRecord[])[] }
	| { readonly kind: "advance"; readonly ms: number }
	| { readonly kind: "step back"; readonly ms: number }
	| { readonly kind: "reopen" }
	| { readonly kind: "trim"; readonly retention: LogRetention }
	| {
			readonly kind: "read";
			readonly at: number;
			readonly backward: boolean;
			readonly byTime: boolean;
			readonly topics: readonly string[] | undefined;
			readonly exact: boolean;
			readonly maxRecords: number;
			readonly maxBytes: number;
	  };

const record: fc.Arbitrary<LogRecord> = fc.record({
	id: fc.oneof(
		fc.nat({ max: 60 }).map((n) => `id-${n}`),
		fc.uuid(),
		fc.constantFrom("é", "\u{1f600}"),
	),
	remember: fc.constantFrom(undefined, undefined, undefined, false),
	topic: fc.constantFrom(...TOPICS),
	bytes: fc.oneof(
		{ weight: 20, arbitrary: fc.uint8Array({ maxLength: 30 }) },
		{ weight: 1, arbitrary: fc.constant(new Uint8Array(40_000)) },
	),
});
const step: fc.Arbitrary<Step> = fc.oneof(
	{
		weight: 8,
		arbitrary: fc.record({
			kind: fc.constant("appends" as const),
			batches: fc.array(fc.array(record, { minLength: 1, maxLength: 12 }), { minLength: 1, maxLength: 5 }),
		}),
	},
	{ weight: 2, arbitrary: fc.record({ kind: fc.constant("advance" as const), ms: fc.nat({ max: 6000 }) }) },
	{ weight: 1, arbitrary: fc.record({ kind: fc.constant("step back" as const), ms: fc.nat({ max: 3000 }) }) },
	{ weight: 1, arbitrary: fc.record({ kind: fc.constant("reopen" as const) }) },
	{
		weight: 1,
		arbitrary: fc.record({
			kind: fc.constant("trim" as const),
			retention: fc.record(
				{ maxAgeMs: fc.nat({ max: 10_000 }), maxRecords: fc.nat({ max: 100 }), maxBytes: fc.nat({ max: 60_000 }) },
				{ requiredKeys: [] },
			),
		}),
	},
	{
		weight: 4,
		arbitrary: fc.record({
			kind: fc.constant("read" as const),
			at: fc.nat({ max: 120 }),
			backward: fc.boolean(),
			byTime: fc.boolean(),
			topics: fc.option(fc.subarray(TOPICS), { nil: undefined }),
			exact: fc.boolean(),
			maxRecords: fc.integer({ min: 1, max: 50 }),
			maxBytes: fc.constantFrom(1, 500, 1 << 20),
		}),
	},
);

type Known = Omit<StoredRecord, "bytes"> & { readonly bytes: string };

/** What a LogStore is, without any of the means. */
class Model {
	readonly records: Known[] = [];
	first = 1;
	time = 0;

	append(batch: readonly LogRecord[], now: number): LogAppended[] {
		this.time = Math.max(this.time, now);
		return batch.map(({ id, remember, topic, bytes }) => {
			const original = remember === false ? undefined : this.#remembered(id);
			if (original) return { sequence: original.sequence, time: original.time, duplicate: true };
			const sequence = this.records.length + 1;
			this.records.push({ id, remember, topic, bytes: Buffer.from(bytes).toString("hex"), sequence, time: this.time });
			return { sequence, time: this.time, duplicate: false };
		});
	}

	held(): Known[] {
		return this.records.slice(this.first - 1);
	}

	#remembered(id: string): Known | undefined {
		return this.held().findLast((one) => one.id === id && one.remember !== false && this.time - one.time < REMEMBER_MS);
	}
}

describe.each(backends)("a LogStore on $name is like a plain list", ({ open }) => {
	test("under any appends in flight, repeats, trims, reads and restarts", { timeout: 120_000 }, async () => {
		await fc.assert(
			fc.asyncProperty(fc.array(step, { maxLength: 30, size: "max" }), async (steps) => {
				await using opened = await open();
				const model = new Model();
				const heard: Known[] = [];
				let log = await openLog(opened, heard);
				for (const each of steps) {
					if (each.kind === "reopen" && opened.reopen) {
						await opened.reopen();
						log = await openLog(opened, heard);
					}
					await take(each, opened, log, model);
					expect(log.bounds()).toMatchObject({ first: model.first, next: model.records.length + 1 });
				}
				const all = model.records.map(({ remember: _, ...rest }) => rest);
				expect(heard).toEqual(all);
				expect(await readAll(log)).toEqual(all.slice(model.first - 1));
			}),
			{ numRuns: RUNS },
		);
	});
});

async function openLog(opened: OpenedState, heard: Known[]): Promise<LogStore> {
	const log = await opened.state.log("events", { rememberMs: REMEMBER_MS });
	log.tail((batch) => heard.push(...batch.map(known)));
	return log;
}

async function take(each: Step, opened: OpenedState, log: LogStore, model: Model): Promise<void> {
	const now = opened.clock.now();
	if (each.kind === "advance") await opened.clock.advance(each.ms);
	if (each.kind === "step back") opened.clock.stepWall(-each.ms);
	if (each.kind === "appends") {
		// A backend of one node stores appends in the order of the calls.
		const settled = each.batches.map((batch) => ({ expected: model.append(batch, now), actual: log.append(batch) }));
		for (const { expected, actual } of settled) expect(await actual).toEqual(expected);
	}
	if (each.kind === "trim") {
		await log.trim(each.retention);
		const { first } = log.bounds();
		for (const dropped of model.records.slice(model.first - 1, first - 1))
			checkDropped(dropped, each.retention, now, model);
		model.first = first;
	}
	if (each.kind === "read") await checkRead(each, log, model);
}

/** A record may only go where one of the bounds is passed: its age, so many records after it, or bytes at all. */
function checkDropped(
	dropped: Known,
	{ maxAgeMs, maxRecords, maxBytes }: LogRetention,
	now: number,
	model: Model,
): void {
	const tooOld = maxAgeMs !== undefined && dropped.time < now - maxAgeMs;
	const tooMany = maxRecords !== undefined && model.records.length - dropped.sequence >= maxRecords;
	expect(tooOld || tooMany || maxBytes !== undefined).toBe(true);
}

async function checkRead(read: Extract<Step, { kind: "read" }>, log: LogStore, model: Model): Promise<void> {
	const { backward, maxRecords, maxBytes } = read;
	const wanted = (topic: string) => read.topics === undefined || read.topics.includes(topic);
	const topics = read.topics && { matches: wanted, ...(read.exact && { exact: read.topics }) };
	const held = model.held();
	const time = held[read.at % Math.max(1, held.length)]?.time ?? 0;
	const from = read.byTime ? { time } : { sequence: read.at };
	const inside = (one: Known) => {
		const position = read.byTime ? one.time - time : one.sequence - read.at;
		return backward ? position <= 0 : position >= 0;
	};
	const expected = held.filter((one) => wanted(one.topic) && inside(one)).map((one) => one.sequence);
	if (backward) expected.reverse();
	const found: number[] = [];
	for (let next: { sequence: number } | { time: number } = from; ; ) {
		const page = await log.read({
			from: next,
			direction: backward ? "backward" : "forward",
			topics,
			maxRecords,
			maxBytes,
		});
		expect(page.records.length).toBeLessThanOrEqual(maxRecords);
		for (const one of page.records) if (wanted(one.topic)) found.push(one.sequence);
		if (backward ? page.next === 0 : page.next >= page.bounds.next) break;
		next = { sequence: page.next };
	}
	expect(found).toEqual(expected);
}

async function readAll(log: LogStore): Promise<Known[]> {
	const records: Known[] = [];
	for (let next = 1; next < log.bounds().next; ) {
		const page = await log.read({ from: { sequence: next }, maxRecords: 1000, maxBytes: 1 << 20 });
		records.push(...page.records.map(known));
		next = page.next;
	}
	return records;
}

function known({ id, topic, bytes, sequence, time }: StoredRecord): Known {
	return { id, topic, bytes: Buffer.from(bytes).toString("hex"), sequence, time };
}
