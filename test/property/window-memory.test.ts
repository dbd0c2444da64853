import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { ChangeGroup } from "../../src/state/change-group.ts";

const MIB = 1024 * 1024;
const GROUP = { prefixes: ["s/"], split: true, maxChanges: 1_000_000, maxBytes: 32 * MIB, maxAgeMs: 1000 };

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

/** Buffers that are collected are given back a little later. */
async function usedBytes(): Promise<number> {
	let least = Number.POSITIVE_INFINITY;
	for (let turn = 0; turn < 10; turn++) {
		collect();
		await new Promise(setImmediate);
		const { heapUsed, arrayBuffers } = process.memoryUsage();
		least = Math.min(least, heapUsed + arrayBuffers);
	}
	return least;
}

test.each([
	{ name: "one small write", writes: 1, valueBytes: 10 },
	{ name: "one write", writes: 1, valueBytes: 250 },
	{ name: "a thousand writes", writes: 1000, valueBytes: 250 },
	{ name: "ten writes of many kilobytes", writes: 10, valueBytes: 15_000 },
])("a window takes about the memory that it is bounded by, of commits of $name", async ({ writes, valueBytes }) => {
	const before = await usedBytes();
	const group = new ChangeGroup(GROUP, () => 0, 0, writes);
	const value = Buffer.alloc(valueBytes);
	// Enough for the bound to be passed twice, with keys that nobody else holds.
	const commits = Math.ceil((2 * GROUP.maxBytes) / (writes * (2 * valueBytes + 64)));
	let revision = 0;
	for (let commit = 0; commit < commits; commit++) {
		group.packer.begin(writes);
		for (let at = 0; at < writes; at++) {
			const key = Buffer.from(`s/a/${commit}-${at}`).toString();
			group.packer.oldEntry(at, { key, value, revision, createRevision: revision });
			group.packer.set(at, key, revision + 1 + at, revision, value);
		}
		group.push(group.packer.finish(revision + 1, revision + writes));
		revision += writes;
	}
	const taken = (await usedBytes()) - before;
	expect(group.enter("s/a/").trimmed).toBeGreaterThan(0);
	expect(taken).toBeLessThan(GROUP.maxBytes * 1.6);
	expect(taken).toBeGreaterThan(GROUP.maxBytes * 0.5);
});
