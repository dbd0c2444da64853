import { durationFromMs } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ChangeCause, type EntryVersion } from "#gen/qirvo/hub/v1/entries_pb.js";
import { HubError } from "../../src/hub-error.ts";
import type { ExpectedRevision } from "../../src/state/expected-revision.ts";
import type { EntryWrite } from "../../src/stores/entry-write.ts";
import type { OpenStore } from "../../src/stores/open-store.ts";
import { type BackendUnderTest, backends } from "../harness/state-backends.ts";
import {
	type ModelConfig,
	type ModelExpected,
	type ModelOutcome,
	type ModelUnit,
	type ModelWrite,
	StoreModel,
} from "../harness/store-model.ts";
import { append, change, increment, StoreWorld, set, textOf } from "../harness/store-world.ts";

/** On each backend: 500 in CI, 10,000 on request. */
const RUNS = Number(process.env.STORE_SEEDS ?? process.env.PROPERTY_RUNS ?? 40);
const STORES = ["kept", "kept-too", "volatile"];
const KEYS = ["a", "b", "__proto__", "é", "\u{1f600}"];
const WRITERS = ["p", "q"];
const INSTANCES = ["i", "j"];

type ExpectKind = "any" | "absent" | "exists" | "current" | "stale";
interface WriteStep extends Omit<ModelWrite, "expected"> {
	readonly expect: ExpectKind;
}
interface UnitStep {
	readonly writer: string;
	readonly checks: readonly { readonly store: string; readonly key: string; readonly expect: ExpectKind }[];
	readonly writes: readonly WriteStep[];
}
type Step =
	| { readonly kind: "unit"; readonly unit: UnitStep }
	| { readonly kind: "define"; readonly store: string; readonly config: Omit<ModelConfig, "persistent"> }
	| { readonly kind: "drop"; readonly store: string }
	| { readonly kind: "advance" }
	| { readonly kind: "step"; readonly ms: number }
	| { readonly kind: "end"; readonly writer: string; readonly instanceId: string }
	| { readonly kind: "restart" };

const store = fc.constantFrom(...STORES);
const key = fc.constantFrom(...KEYS);
const writer = fc.constantFrom(...WRITERS);
const expectKind = fc.constantFrom<ExpectKind>("any", "any", "any", "absent", "exists", "current", "current", "stale");
const ttlMs = fc.constantFrom(undefined, undefined, undefined, 0, 1, 30_000, 90_000, 200_000);
const write: fc.Arbitrary<WriteStep> = fc.oneof(
	{
		weight: 4,
		arbitrary: fc.record({
			kind: fc.constant("set" as const),
			store,
			key,
			value: fc.constantFrom<unknown>(1, "xyz", [1], [], { a: 1 }, "a longer one to fill a quota"),
			ttlMs,
			instanceId: fc.constantFrom("", "", "", ...INSTANCES),
			expect: expectKind,
		}),
	},
	{ weight: 2, arbitrary: plain("delete", fc.constant(undefined), expectKind) },
	{ weight: 2, arbitrary: plain("increment", fc.integer({ min: -5, max: 5 }), fc.constant("any")) },
	{ weight: 2, arbitrary: plain("append", fc.constantFrom<unknown>(1, 2, "x"), fc.constant("any")) },
);

function plain(
	kind: "delete" | "increment" | "append",
	value: fc.Arbitrary<unknown>,
	expect: fc.Arbitrary<ExpectKind>,
): fc.Arbitrary<WriteStep> {
	return fc.record({ kind: fc.constant(kind), store, key, value, ttlMs, instanceId: fc.constant(""), expect });
}

const unit: fc.Arbitrary<UnitStep> = fc.record({
	writer,
	checks: fc.oneof(
		{ weight: 3, arbitrary: fc.constant([]) },
		{ weight: 1, arbitrary: fc.array(fc.record({ store, key, expect: expectKind }), { maxLength: 2 }) },
	),
	writes: fc.uniqueArray(write, {
		minLength: 1,
		maxLength: 4,
		size: "small",
		selector: (each) => `${each.store}/${each.key}`,
	}),
});

const config = fc.record({
	history: fc.constantFrom(1, 2, 3, 5),
	defaultTtlMs: fc.constantFrom(0, 0, 45_000),
	maxKeys: fc.constantFrom(1, 3, 100),
	maxBytes: fc.constantFrom(20, 60, 10_000),
	pluginMaxKeys: fc.constantFrom(2, 100),
	pluginMaxBytes: fc.constantFrom(30, 10_000),
});

const step: fc.Arbitrary<Step> = fc.oneof(
	{ weight: 30, arbitrary: fc.record({ kind: fc.constant("unit" as const), unit }) },
	{ weight: 3, arbitrary: fc.record({ kind: fc.constant("define" as const), store, config }) },
	{ weight: 1, arbitrary: fc.record({ kind: fc.constant("drop" as const), store }) },
	{ weight: 2, arbitrary: fc.constant({ kind: "advance" as const }) },
	{ weight: 2, arbitrary: fc.record({ kind: fc.constant("step" as const), ms: fc.constantFrom(1, 31_000, -10_000) }) },
	{
		weight: 2,
		arbitrary: fc.record({ kind: fc.constant("end" as const), writer, instanceId: fc.constantFrom(...INSTANCES) }),
	},
	{ weight: 1, arbitrary: fc.constant({ kind: "restart" as const }) },
);

const GENEROUS = {
	history: 3,
	defaultTtlMs: 0,
	maxKeys: 100,
	maxBytes: 10_000,
	pluginMaxKeys: 100,
	pluginMaxBytes: 10_000,
};

describe.each(backends)("the stores on $name are like plain maps", (backend) => {
	test("under any writes, ends, changes and restarts", { timeout: 60_000 + RUNS * 1000 }, async () => {
		await fc.assert(
			fc.asyncProperty(fc.array(step, { maxLength: 40, size: "max" }), (steps) => run(backend, steps)),
			{ numRuns: RUNS },
		);
	});
});

async function run(backend: BackendUnderTest, steps: readonly Step[]): Promise<void> {
	await using world = await StoreWorld.open(backend, { cacheBytes: 2000 });
	for (const pluginId of WRITERS) for (const id of INSTANCES) world.leases.live.add(`${pluginId}/${id}`);
	const model = new StoreModel(world.leases.live);
	for (const name of STORES) await define(world, model, name, GENEROUS);
	for (const each of steps) {
		await take(each, world, model);
		compare(world, model);
	}
	expect(world.faults).toEqual([]);
}

async function take(each: Step, world: StoreWorld, model: StoreModel): Promise<void> {
	switch (each.kind) {
		case "unit":
			return await takeUnit(each.unit, world, model);
		case "define":
			return await define(world, model, each.store, each.config);
		case "drop":
			if (!model.stores.delete(each.store)) return;
			return await drop(world, each.store);
		case "advance":
			await world.advance(61_000);
			return model.endAll(world.clock.now());
		case "step":
			return world.clock.stepWall(each.ms);
		case "end": {
			const over = `${each.writer}/${each.instanceId}`;
			if (!world.leases.live.has(over)) return void world.leases.live.add(over);
			world.leases.end(each.writer, each.instanceId);
			await world.stores.idle();
			return model.endLeases(world.clock.now());
		}
		case "restart":
			await world.restart();
			if (world.forgets) model.stores.delete("volatile");
			// What is over by now is ended at the start.
			await world.advance(0);
			return model.endAll(world.clock.now());
	}
}

async function drop(world: StoreWorld, name: string): Promise<void> {
	const { store: dropped } = await world.stores.definitions.delete(name, change());
	await world.stores.idle();
	const { entries } = world.stores.keyspaceOf(dropped).kv.range({ start: "store/", end: "store0", limit: 1000 });
	expect(entries.filter(({ key }) => `${key}/`.includes(`/${dropped.id}/`))).toEqual([]);
}

async function takeUnit({ writer: by, checks, writes }: UnitStep, world: StoreWorld, model: StoreModel): Promise<void> {
	const now = world.clock.now();
	const expected = (name: string, place: string, kind: ExpectKind): ModelExpected => {
		if (kind === "current" || kind === "stale") {
			const revision = model.shown(name, place, now)?.revision ?? 0;
			return { revision: kind === "current" ? revision : revision + 1 };
		}
		return kind;
	};
	const known = [...checks, ...writes].filter((each) => world.stores.definitions.find(each.store) === undefined);
	if (known.length > 0) return;
	const drafted: ModelUnit = {
		writer: by,
		checks: checks.map((each) => ({ ...each, expected: expected(each.store, each.key, each.expect) })),
		writes: writes.map((each) => ({ ...each, expected: expected(each.store, each.key, each.expect) })),
	};
	const outcome = model.apply(drafted, now);
	const find = (name: string) => world.stores.definitions.find(name)!;
	const submitted = world.submit({
		writer: by,
		checks: drafted.checks.map((each) => ({ ...each, store: find(each.store), expected: asked(each.expected) })),
		writes: drafted.writes.map((each) => writeOf(find(each.store), each)),
		transactionId: "t",
	});
	const actual: ModelOutcome = await submitted.then(
		({ results }) => {
			for (const [index, made] of model.made.entries()) if (made) made.revision = results[index]!.revision;
			return { results: results.map(({ changed, number }) => ({ changed, number })) };
		},
		(error: unknown) => ({ refused: error instanceof HubError ? error.reason : ("INTERNAL" as const) }),
	);
	expect(actual).toEqual(outcome);
}

function writeOf(target: OpenStore, each: ModelWrite): EntryWrite {
	switch (each.kind) {
		case "set": {
			const { ttlMs: ttl, instanceId } = each;
			return set(target, each.key, each.value, { ttlMs: ttl, instanceId, expected: asked(each.expected) });
		}
		case "delete":
			return { kind: "delete", store: target, key: each.key, expected: asked(each.expected), returnPrevious: false };
		case "increment":
			return increment(target, each.key, each.value as number, each.ttlMs);
		case "append":
			return append(target, each.key, each.value, each.ttlMs);
	}
}

function asked(expected: ModelExpected): ExpectedRevision {
	if (typeof expected === "string") return { kind: expected };
	return { kind: "revision", revision: BigInt(expected.revision) };
}

async function define(world: StoreWorld, model: StoreModel, name: string, wanted: Omit<ModelConfig, "persistent">) {
	const known = model.stores.get(name);
	const shown = {
		persistent: name !== "volatile",
		history: wanted.history,
		...(wanted.defaultTtlMs > 0 && { defaultTtl: durationFromMs(wanted.defaultTtlMs) }),
		quota: { keys: BigInt(wanted.maxKeys), bytes: BigInt(wanted.maxBytes) },
		pluginQuota: { keys: BigInt(wanted.pluginMaxKeys), bytes: BigInt(wanted.pluginMaxBytes) },
	};
	const persistent = name !== "volatile";
	if (known === undefined) {
		await world.create(name, shown);
		model.stores.set(name, { owner: "owner", config: { ...wanted, persistent }, keys: new Map() });
	} else {
		await world.update(name, shown);
		known.config = { ...wanted, persistent };
	}
}

const CAUSES = {
	[ChangeCause.UNSPECIFIED]: "none",
	[ChangeCause.SET]: "set",
	[ChangeCause.DELETED]: "deleted",
	[ChangeCause.EXPIRED]: "expired",
	[ChangeCause.LEASE_ENDED]: "lease",
};

function compare(world: StoreWorld, model: StoreModel): void {
	const now = world.clock.now();
	for (const name of STORES) {
		const found = world.stores.definitions.find(name);
		expect(found !== undefined).toBe(model.stores.has(name));
		if (found === undefined) continue;
		const shown = KEYS.filter((each) => model.shown(name, each, now) !== undefined);
		const listed = world.list(found).entries.map((entry) => entry.key);
		expect(listed).toEqual(shown.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))));
		for (const each of KEYS) {
			const entry = world.get(found, each);
			const expected = model.shown(name, each, now);
			expect(textOf(entry)).toEqual(expected?.text);
			expect(entry && Number(entry.revision)).toEqual(expected?.revision);
			expect(entry?.writer).toEqual(expected?.writer);
			expect(entry?.instanceId).toEqual(expected?.instanceId);
			expect(entry?.expireTime !== undefined).toBe((expected?.expires ?? 0) !== 0);
			expect(world.history(found, each).map(describeVersion)).toEqual(model.history(name, each));
		}
		expect(found.usage()).toEqual(model.usage(name));
		const { usage } = world.stores.keyspaceOf(found);
		for (const each of WRITERS) expect(usage.row(found.id, each)).toMatchObject(model.usage(name, each));
	}
}

function describeVersion({ cause, actor, entry, revision }: EntryVersion): string {
	return `${CAUSES[cause]}:${actor}${entry === undefined ? "" : `:${textOf(entry)}:${revision}`}`;
}
