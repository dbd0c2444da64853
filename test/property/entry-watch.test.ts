import fc from "fast-check";
import { expect, test } from "vitest";
import { HubError } from "../../src/hub-error.ts";
import type { KvChange, KvWrite } from "../../src/state/kv-store.ts";
import type { KeyMatcher } from "../../src/stores/entry-query.ts";
import { EntryWatch, type WatchLimits, type WatchStart } from "../../src/stores/entry-watch.ts";
import { LaggingKv } from "../harness/lagging-kv.ts";

const RUNS = Number(process.env.PROPERTY_RUNS ?? 300);
const PREFIX = "store/entry/s/";
const KEYS = ["a", "b", "b/1", "b/2", "c", "é", "\uffee", "\u{1f600}", "z"];
/** So small that every one of them counts. */
const LIMITS: WatchLimits = {
	batchChanges: 4,
	batchBytes: 1024,
	scannedPerTake: 6,
	behindChanges: 7,
	behindBytes: 2000,
};
const B_KEYS: KeyMatcher = { prefix: "b", matches: (key) => key.startsWith("b") };

type Step =
	| { readonly do: "write"; readonly writes: readonly { readonly key: string; readonly size: number | undefined }[] }
	| { readonly do: "settle"; readonly commits: number }
	| { readonly do: "take" }
	| { readonly do: "disconnect" };

const write = fc.record({
	key: fc.constantFrom(...KEYS),
	size: fc.option(fc.constantFrom(1, 20, 400), { nil: undefined }),
});
const writes = fc.uniqueArray(write, { minLength: 1, maxLength: 8, selector: (each) => each.key });
const step: fc.Arbitrary<Step> = fc.oneof(
	{ weight: 4, arbitrary: fc.record({ do: fc.constant("write" as const), writes }) },
	{ weight: 3, arbitrary: fc.record({ do: fc.constant("settle" as const), commits: fc.integer({ min: 1, max: 3 }) }) },
	{ weight: 6, arbitrary: fc.record({ do: fc.constant("take" as const) }) },
	{ weight: 1, arbitrary: fc.record({ do: fc.constant("disconnect" as const) }) },
);

/** What a reader makes of what it is told; fails on whatever does not follow from what it knows. */
class Reader {
	/** The revision of each key that it knows of. */
	readonly known = new Map<string, number>();
	/** Changes told since `from`, those merged into others too. */
	count = 0;
	/** Where the count began; undefined: in the snapshot. */
	from: number | undefined;
	readonly positions: { readonly position: number; readonly known: ReadonlyMap<string, number> }[] = [];
	readonly store: LaggingKv;
	readonly keys: KeyMatcher | undefined;
	watch: EntryWatch;

	constructor(store: LaggingKv, keys: KeyMatcher | undefined, start: WatchStart, known?: ReadonlyMap<string, number>) {
		this.store = store;
		this.keys = keys;
		for (const [key, revision] of known ?? []) this.known.set(key, revision);
		this.watch = this.#open(start);
		this.from = this.watch.position;
	}

	/** The same reader comes back with the last position that it was told, or begins anew. */
	reconnect(): void {
		const last = this.positions.at(-1);
		if (last === undefined) {
			this.restart();
			return;
		}
		this.watch[Symbol.dispose]();
		try {
			this.watch = this.#open({ from: "after", epoch: "s", sequence: BigInt(last.position) });
		} catch (error) {
			if (!(error instanceof HubError) || error.reason !== "POSITION_TRIMMED") throw error;
			this.restart();
		}
	}

	restart(): void {
		this.watch[Symbol.dispose]();
		this.known.clear();
		this.positions.length = 0;
		this.count = 0;
		this.from = undefined;
		this.watch = this.#open({ from: "snapshot" });
	}

	take(): void {
		const isSnapshot = this.watch.position === undefined;
		let last = 0;
		for (const { first, last: change, coalesced } of this.watch.take()) {
			const known = this.known.get(change.key) ?? 0;
			const between = this.store.history.filter(
				(each) => each.key === change.key && each.revision >= first.revision && each.revision <= change.revision,
			);
			expect(between).toHaveLength(1 + coalesced);
			// Entries of a snapshot come without what was there before; of a key that was told they never come again.
			const isEntry = isSnapshot && first.oldRevision === 0 && change.value !== undefined && known === 0;
			if (!isEntry) {
				expect(first.oldRevision).toBe(known);
				expect(change.revision).toBeGreaterThan(last);
				last = change.revision;
			}
			if (change.value === undefined) this.known.delete(change.key);
			else this.known.set(change.key, change.revision);
			this.count += 1 + coalesced;
		}
		const { position } = this.watch;
		if (position === undefined) return;
		expect([...this.known].sort()).toEqual([...this.#stateAt(position)].sort());
		if (this.from === undefined) this.count = this.#changesBetween(0, position);
		this.from ??= 0;
		expect(this.count).toBe(this.#changesBetween(this.from, position));
		this.positions.push({ position, known: new Map(this.known) });
	}

	#open(start: WatchStart): EntryWatch {
		return new EntryWatch({ kv: this.store.kv, storeId: "s", keys: this.keys, start, limits: LIMITS });
	}

	#mine(until: number): KvChange[] {
		return this.store.history.filter(
			({ key, revision }) => revision <= until && (this.keys?.matches(key.slice(PREFIX.length)) ?? true),
		);
	}

	#stateAt(position: number): Map<string, number> {
		const state = new Map<string, number>();
		for (const { key, value, revision } of this.#mine(position)) {
			if (value === undefined) state.delete(key);
			else state.set(key, revision);
		}
		return state;
	}

	#changesBetween(after: number, until: number): number {
		return this.#mine(until).filter(({ revision }) => revision > after).length;
	}
}

function drain(reader: Reader): void {
	let woken = 0;
	for (let turn = 0; turn < 500; turn++) {
		reader.take();
		if (reader.watch.idle && reader.watch.caughtUp) return;
		// What waits for nothing that is missing is woken at once.
		if (reader.watch.idle) reader.watch.wait(() => woken++);
	}
	throw new Error(`not caught up after 500 turns, woken ${woken} times`);
}

async function run(store: LaggingKv, steps: readonly Step[], reader: Reader): Promise<void> {
	for (const each of steps) {
		if (each.do === "write") {
			const writes = each.writes.map(
				({ key, size }): KvWrite =>
					size === undefined ? { key: PREFIX + key, delete: true } : { key: PREFIX + key, value: Buffer.alloc(size) },
			);
			await store.commit(writes);
		} else if (each.do === "settle") store.settle(each.commits);
		else if (each.do === "disconnect") reader.reconnect();
		else overtakenOr(reader, () => reader.take());
	}
	store.settle();
	overtakenOr(reader, () => drain(reader));
}

/** A reader that the window has overtaken begins anew. */
function overtakenOr(reader: Reader, work: () => void): void {
	try {
		work();
	} catch (error) {
		if (!(error instanceof HubError) || error.reason !== "POSITION_TRIMMED") throw error;
		reader.restart();
		drain(reader);
	}
}

const scenario = fc.record({
	before: fc.array(writes, { maxLength: 6 }),
	steps: fc.array(step, { maxLength: 40, size: "max" }),
	pageEntries: fc.integer({ min: 1, max: 4 }),
	windowChanges: fc.constantFrom(12, 1000),
	onlyB: fc.boolean(),
	start: fc.constantFrom("snapshot" as const, "new" as const),
});

test("a watch tells every change once and in order, whatever is written between its batches", {
	timeout: 120_000,
}, async () => {
	await fc.assert(
		fc.asyncProperty(scenario, async ({ before, steps, pageEntries, windowChanges, onlyB, start }) => {
			const store = new LaggingKv({ pageEntries, windowChanges });
			const keys = onlyB ? B_KEYS : undefined;
			for (const each of before) {
				await store.commit(each.map(({ key, size = 1 }) => ({ key: PREFIX + key, value: Buffer.alloc(size) })));
			}
			store.settle();
			const known = new Map<string, number>();
			if (start === "new") {
				for (const { key, revision } of store.history) {
					if (keys?.matches(key.slice(PREFIX.length)) ?? true) known.set(key, revision);
				}
			}
			const reader = new Reader(store, keys, { from: start }, known);
			await run(store, steps, reader);
			for (const { position, known: then } of reader.positions) {
				let resumed: Reader;
				try {
					resumed = new Reader(store, keys, { from: "after", epoch: "s", sequence: BigInt(position) }, then);
				} catch (error) {
					expect(error).toMatchObject({
						reason: "POSITION_TRIMMED",
						metadata: { oldest: expect.stringMatching(/^\d+$/) },
					});
					expect(windowChanges).toBe(12);
					continue;
				}
				drain(resumed);
				expect([...resumed.known].sort()).toEqual([...reader.known].sort());
				resumed.watch[Symbol.dispose]();
			}
			reader.watch[Symbol.dispose]();
		}),
		{ numRuns: RUNS },
	);
});
