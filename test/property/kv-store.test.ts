import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { KvChange, KvCommit, KvCommitResult, KvStore } from "../../src/state/kv-store.ts";
import { backends, type OpenedState } from "../harness/state-backends.ts";

const KEYS = ["plugin/a", "plugin/b", "plugin/\u{1f600}", "plugin/\uffee", "plugin/é", "x", "y/1", "y/2", "\u0001"];
const RUNS = Number(process.env.PROPERTY_RUNS ?? 40);

type Expectation = "present" | "absent" | "wrong";

/** A commit before it is known what is there: `expect` picks the revision that a check or a write names. */
interface Plan {
	readonly id: number;
	readonly checks: readonly { readonly key: string; readonly expect: Expectation }[];
	readonly writes: readonly {
		readonly key: string;
		readonly value: string | undefined;
		readonly expect: Expectation | undefined;
	}[];
}

type Step =
	| { readonly kind: "commits"; readonly plans: readonly Plan[] }
	| { readonly kind: "reopen" }
	| {
			readonly kind: "range";
			readonly start: string;
			readonly end: string | undefined;
			readonly limit: number;
			readonly reverse: boolean;
	  };

const key = fc.constantFrom(...KEYS);
const expectation = fc.constantFrom<Expectation>("present", "present", "absent", "wrong");
const written = fc.record({
	key,
	value: fc.option(fc.string({ maxLength: 5 }), { nil: undefined }),
	expect: fc.option(fc.constantFrom<Expectation>("present", "present", "present", "wrong"), { nil: undefined }),
});
const plan: fc.Arbitrary<Plan> = fc.record({
	id: fc.nat({ max: 30 }),
	checks: fc.array(fc.record({ key, expect: expectation }), { maxLength: 2 }),
	writes: fc.uniqueArray(written, { maxLength: 4, selector: (write) => write.key }),
});
const step: fc.Arbitrary<Step> = fc.oneof(
	{
		weight: 6,
		arbitrary: fc.record({
			kind: fc.constant("commits" as const),
			plans: fc.array(plan, { minLength: 1, maxLength: 5 }),
		}),
	},
	{ weight: 1, arbitrary: fc.record({ kind: fc.constant("reopen" as const) }) },
	{
		weight: 2,
		arbitrary: fc.record({
			kind: fc.constant("range" as const),
			start: fc.constantFrom("", ...KEYS, "plugin/", "z"),
			end: fc.constantFrom(undefined, ...KEYS, "plugin0"),
			limit: fc.integer({ min: 1, max: 6 }),
			reverse: fc.boolean(),
		}),
	},
);

/** What a KvStore is, without any of the means. */
class Model {
	readonly entries = new Map<string, { value: string; revision: number; createRevision: number }>();
	readonly outcomes = new Map<string, KvCommitResult>();
	readonly changes: string[] = [];
	revision = 0;

	apply(commit: KvCommit): KvCommitResult {
		const known = this.outcomes.get(commit.id);
		if (known) return known;
		const conflicts = [];
		for (const check of commit.checks ?? []) {
			const actual = this.entries.get(check.key)?.revision ?? 0;
			if (actual !== check.revision) conflicts.push({ key: check.key, actual });
		}
		for (const { key, expected } of commit.writes) {
			const actual = this.entries.get(key)?.revision ?? 0;
			if (expected !== undefined && actual !== expected) conflicts.push({ key, actual });
		}
		if (conflicts.length > 0) return { ok: false, conflicts };
		const firstRevision = this.revision + (commit.writes.length > 0 ? 1 : 0);
		for (const write of commit.writes) {
			const old = this.entries.get(write.key);
			const revision = ++this.revision;
			const value = write.value instanceof Uint8Array ? Buffer.from(write.value).toString() : undefined;
			if (value === undefined) this.entries.delete(write.key);
			else this.entries.set(write.key, { value, revision, createRevision: old?.createRevision ?? revision });
			if (write.key.startsWith("plugin/")) this.changes.push(`${revision} ${write.key} ${old?.value} -> ${value}`);
		}
		const result: KvCommitResult = { ok: true, firstRevision, revision: this.revision };
		if (commit.writes.length > 0) this.outcomes.set(commit.id, result);
		return result;
	}

	range({ start, end, limit, reverse }: { start: string; end: string | undefined; limit: number; reverse: boolean }) {
		const inside = [...this.entries.keys()].filter(
			(k) => bytesOrder(k, start) >= 0 && (end === undefined || bytesOrder(k, end) < 0),
		);
		inside.sort(bytesOrder);
		if (reverse) inside.reverse();
		return { keys: inside.slice(0, limit), more: inside.length > limit };
	}
}

const bytesOrder = (a: string, b: string) => Buffer.compare(Buffer.from(a), Buffer.from(b));

describe.each(backends)("a KvStore on $name is like a plain map", ({ open }) => {
	test("under any commits in flight, ranges and restarts", { timeout: 120_000 }, async () => {
		await fc.assert(
			fc.asyncProperty(fc.array(step, { maxLength: 25, size: "max" }), async (steps) => {
				await using opened = await open();
				const model = new Model();
				const stop = new AbortController();
				let told = collect(opened.state.kv, stop.signal);
				for (const each of steps) {
					if (each.kind === "reopen" && opened.reopen) {
						// A watch ends with the state, whether or not it has told everything.
						await caughtUp(told.changes, model);
						const heard = told;
						await opened.reopen();
						told = collect(opened.state.kv, stop.signal, await heard);
					}
					await take(each, opened, model);
					same(opened.state.kv, model);
				}
				await caughtUp(told.changes, model);
				stop.abort();
				expect(await told).toEqual(model.changes);
			}),
			{ numRuns: RUNS },
		);
	});
});

async function take(each: Step, opened: OpenedState, model: Model): Promise<void> {
	const { kv } = opened.state;
	if (each.kind === "commits") {
		// A backend of one node applies commits in the order of the calls.
		const settled = each.plans.map((one) => {
			const commit = commitOf(one, model);
			return { expected: model.apply(commit), actual: kv.commit(commit) };
		});
		for (const { expected, actual } of settled) expect(await actual).toEqual(expected);
	} else if (each.kind === "range") {
		const page = kv.range(each);
		const expected = model.range(each);
		expect(page.entries.map((entry) => entry.key)).toEqual(expected.keys);
		expect(page).toMatchObject({ more: expected.more, revision: model.revision });
	}
}

function commitOf({ id, checks, writes }: Plan, model: Model): KvCommit {
	const revisionOf = (key: string, expect: Expectation) => {
		const actual = model.entries.get(key)?.revision ?? 0;
		return { present: actual, absent: 0, wrong: actual + 1 }[expect];
	};
	return {
		id: `id-${id}`,
		checks: checks.map(({ key, expect }) => ({ key, revision: revisionOf(key, expect) })),
		writes: writes.map(({ key, value, expect }) => ({
			...(value === undefined ? { key, delete: true as const } : { key, value: Buffer.from(value) }),
			...(expect !== undefined && { expected: revisionOf(key, expect) }),
		})),
	};
}

function same(kv: KvStore, model: Model): void {
	expect(kv.revision).toBe(model.revision);
	for (const name of KEYS) {
		const entry = kv.get(name);
		const shown = entry && {
			value: Buffer.from(entry.value).toString(),
			revision: entry.revision,
			createRevision: entry.createRevision,
		};
		expect(shown).toEqual(model.entries.get(name));
	}
}

/** A watch tells what is settled within a few turns of the loop. */
async function caughtUp(told: readonly string[], model: Model): Promise<void> {
	for (let turns = 0; turns < 100 && told.length < model.changes.length; turns++) await new Promise(setImmediate);
	expect(told).toEqual(model.changes);
}

/** The changes that a watch tells from now on, after those given; resolves when the watch ends. */
function collect(
	kv: KvStore,
	signal: AbortSignal,
	before: string[] = [],
): Promise<string[]> & { readonly changes: string[] } {
	const changes = before;
	const watch = kv.watch("plugin/", { signal });
	const run = async () => {
		for await (const batch of watch) {
			changes.push(...batch.map(describeChange));
			if (!batch.at(-1)!.lastOfCommit) throw new Error("a batch ends inside a commit");
		}
		return changes;
	};
	return Object.assign(run(), { changes });
}

function describeChange({ key: name, oldValue, value, revision }: KvChange): string {
	const text = (bytes: Uint8Array | undefined) => bytes && Buffer.from(bytes).toString();
	return `${revision} ${name} ${text(oldValue)} -> ${text(value)}`;
}
