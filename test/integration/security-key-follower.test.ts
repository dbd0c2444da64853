import { expect, test } from "vitest";
import { KeyFollower } from "../../src/state/key-follower.ts";
import { CompactedError, type KvStore } from "../../src/state/kv-store.ts";
import { openMemoryState } from "../../src/state/memory/open-memory-state.ts";
import { FakeClock, SequentialIds } from "../harness/fake-clock.ts";

const VALUE = new Uint8Array(1);

/** A store whose watches can be made to fail, as they are made and while they run. */
function faulty(kv: KvStore) {
	const faults = { refuse: false, fail: undefined as ((error: Error) => void) | undefined, watches: 0 };
	const store: KvStore = {
		capabilities: kv.capabilities,
		get revision() {
			return kv.revision;
		},
		get: (key) => kv.get(key),
		range: (query) => kv.range(query),
		commit: (commit) => kv.commit(commit),
		barrier: () => kv.barrier(),
		read: (prefix, after) => kv.read(prefix, after),
		watch(prefix, options) {
			faults.watches++;
			if (faults.refuse) throw new Error("not now");
			const inner = kv.watch(prefix, options)[Symbol.asyncIterator]();
			const broken = new Promise<never>((_, reject) => {
				faults.fail = reject;
			});
			broken.catch(() => {});
			return { [Symbol.asyncIterator]: () => ({ next: () => Promise.race([inner.next(), broken]) }) };
		},
	};
	return { store, faults };
}

test("what was missed in a fault is told, and later changes are followed again", async () => {
	const clock = new FakeClock();
	await using state = openMemoryState({ clock, ids: new SequentialIds() });
	const { store, faults } = faulty(state.kv);
	const seen: string[] = [];
	const follower = new KeyFollower({
		kv: store,
		clock,
		prefix: "policy/",
		changed: (changes) => seen.push(...changes.map(({ key }) => key)),
		missed: () => seen.push("missed"),
	});
	follower.start();
	const write = async (key: string) => {
		await state.kv.commit({ id: key, writes: [{ key, value: VALUE }] });
		await clock.advance(0);
	};
	await write("policy/a");
	await write("plugin/x");
	expect(seen).toEqual(["policy/a"]);

	faults.fail?.(new CompactedError(1));
	await clock.advance(0);
	await write("policy/b");
	expect(seen).toEqual(["policy/a"]);
	await clock.advance(250);
	expect(seen).toEqual(["policy/a", "missed"]);
	await write("policy/c");
	expect(seen).toEqual(["policy/a", "missed", "policy/c"]);

	faults.refuse = true;
	faults.fail?.(new Error("gone"));
	await clock.advance(1000);
	expect(seen).toHaveLength(3);
	expect(faults.watches).toBeLessThan(10);
	faults.refuse = false;
	await clock.advance(250);
	expect(seen.slice(3)).toEqual(["missed"]);

	await follower[Symbol.asyncDispose]();
	await follower[Symbol.asyncDispose]();
	expect(clock.pendingTimers).toBe(0);
});

test("a watch that ends by itself does not make the follower spin", async () => {
	const clock = new FakeClock();
	const state = openMemoryState({ clock, ids: new SequentialIds() });
	const { store, faults } = faulty(state.kv);
	const follower = new KeyFollower({ kv: store, clock, prefix: "policy/", changed: () => {}, missed: () => {} });
	follower.start();
	await state[Symbol.asyncDispose]();
	await clock.advance(1000);
	expect(faults.watches).toBeLessThanOrEqual(5);
	await follower[Symbol.asyncDispose]();
	expect(clock.pendingTimers).toBe(0);
});
