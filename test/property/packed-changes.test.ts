import fc from "fast-check";
import { expect, test } from "vitest";
import { ChangeGroup } from "../../src/state/change-group.ts";
import type { KvChange } from "../../src/state/kv-store.ts";

const GROUP = { prefixes: ["s/"], split: true, maxChanges: 40, maxBytes: 4 * 1024 * 1024, maxAgeMs: 1000 };
const RUNS = Number(process.env.PROPERTY_RUNS ?? 40);
/** Small ones share slabs, of which a few dozen of the larger small ones fill one. */
const SIZES = [0, 1, 250, 3000, 16_000, 16_384, 70_000];

/** One write: what was there, what is, or how its removal is noted. */
interface Written {
	readonly lane: string;
	readonly old: number | undefined;
	readonly now: number | undefined;
	readonly note: number | undefined;
}

const size = fc.constantFrom(...SIZES);
const written: fc.Arbitrary<Written> = fc.record({
	lane: fc.constantFrom("s/a/", "s/a/", "s/b/", "s/c"),
	old: fc.option(size, { nil: undefined }),
	now: fc.option(size, { nil: undefined, freq: 5 }),
	note: fc.option(size, { nil: undefined }),
});
const step = fc.record({
	writes: fc.array(written, { minLength: 1, maxLength: 8 }),
	fate: fc.constantFrom("kept", "kept", "kept", "read", "read", "refused", "failed"),
});

/** Bytes that tell where they belong. */
const bytesOf = (length: number, seed: number) => Buffer.alloc(length, seed % 251);

interface Expected extends Written {
	readonly revision: number;
	readonly lastOfCommit: boolean;
}

interface Told {
	readonly change: KvChange;
	readonly expected: Expected;
}

test("what is packed is told as it was, for as long as it is held, whatever becomes of the rest", () => {
	fc.assert(
		fc.property(fc.array(step, { maxLength: 60, size: "max" }), (steps) => {
			const group = new ChangeGroup(GROUP, () => 0, 0, 8);
			const held: Told[] = [];
			let revision = 0;
			for (const [at, { writes, fate }] of steps.entries()) {
				const packed = pack(group, writes, revision, fate === "refused");
				if (fate === "refused" || fate === "failed") continue;
				const told = writes.map((write, index) => ({
					...write,
					revision: revision + 1 + index,
					lastOfCommit: index === writes.length - 1,
				}));
				revision += writes.length;
				if (fate === "read") {
					for (const [index, expected] of told.entries()) {
						const change = packed!.changeAt(index);
						// Of half of them nothing is asked before the window has moved on.
						if (at % 2 === 0) same(change, expected);
						held.push({ change, expected });
					}
				}
				group.push(packed!);
				for (const { change, expected } of held.slice(-3)) same(change, expected);
			}
			for (const { change, expected } of held) same(change, expected);
		}),
		{ numRuns: RUNS },
	);
});

function pack(group: ChangeGroup, writes: readonly Written[], revision: number, refused: boolean) {
	const { packer } = group;
	packer.begin(writes.length);
	for (const [index, { old, lane }] of writes.entries()) {
		if (old === undefined) continue;
		const value = bytesOf(old, index + 100);
		packer.oldEntry(index, { key: lane, value, revision: index + 7, createRevision: index + 3 });
	}
	if (refused) {
		packer.abandon();
		return undefined;
	}
	for (const [index, { lane, old, now, note }] of writes.entries()) {
		const mine = revision + 1 + index;
		const key = `${lane}${index}`;
		const createRevision = old === undefined ? mine : index + 3;
		if (now !== undefined) packer.set(index, key, mine, createRevision, bytesOf(now, mine));
		else packer.remove(index, key, note === undefined ? undefined : bytesOf(note, mine + 1));
	}
	const packed = packer.finish(revision + 1, revision + writes.length);
	expect(packed.bytes).toBe(writes.reduce((bytes, _, at) => bytes + packed.bytesAt(at), 0));
	return packed;
}

function same(change: KvChange, { lane, old, now, note, revision, lastOfCommit }: Expected): void {
	const index = Number(change.key.slice(lane.length));
	const { createRevision, oldRevision } = change;
	expect([change.revision, change.lastOfCommit]).toEqual([revision, lastOfCommit]);
	expect([createRevision, oldRevision]).toEqual(old === undefined ? [revision, 0] : [index + 3, index + 7]);
	sameBytes(change.oldValue, old, index + 100);
	sameBytes(change.value, now, revision);
	sameBytes(change.note, now === undefined ? note : undefined, revision + 1);
}

function sameBytes(bytes: Uint8Array | undefined, length: number | undefined, seed: number): void {
	if (length === undefined) expect(bytes).toBeUndefined();
	else if (bytes === undefined || Buffer.compare(bytes, bytesOf(length, seed)) !== 0) throw new Error("other bytes");
}
