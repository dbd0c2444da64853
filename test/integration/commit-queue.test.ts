import { expect, test } from "vitest";
import { CommitQueue } from "../../src/state/commit-queue.ts";
import { type KvCommit, StorageError } from "../../src/state/kv-store.ts";
import { VolatileKvStore } from "../../src/state/volatile-kv-store.ts";
import { FakeClock, SequentialIds } from "../harness/fake-clock.ts";
import { settled } from "../harness/settled.ts";

/** A store whose commits the test lets through one by one. */
function held({ shared = false } = {}) {
	const clock = new FakeClock();
	const kv = new VolatileKvStore(clock);
	Object.defineProperty(kv, "capabilities", { value: { ...kv.capabilities, shared } });
	const commits: { readonly commit: KvCommit; readonly go: (error?: unknown) => void }[] = [];
	const commit = kv.commit.bind(kv);
	kv.commit = (asked) =>
		new Promise((resolve, reject) => {
			commits.push({ commit: asked, go: (error) => (error === undefined ? resolve(commit(asked)) : reject(error)) });
		});
	return { clock, kv, commits, queue: new CommitQueue({ kv, clock, ids: new SequentialIds() }) };
}

const put = (key: string, size = 1) => ({ key, value: new Uint8Array(size) });

test("one commit is on its way, and what comes meanwhile goes together with the next one", async () => {
	const { kv, commits, queue } = held();
	const told: string[] = [];
	for (const key of ["a", "b"]) queue.add([put(key)], () => told.push(key));
	await settled();
	for (const key of ["c", "d"]) queue.add([put(key)], () => told.push(key));
	await settled();
	expect(commits.map(({ commit }) => commit.writes.map(({ key }) => key))).toEqual([["a", "b"]]);
	commits[0]!.go();
	await settled();
	expect(told).toEqual(["a", "b"]);
	expect(commits[1]!.commit.writes.map(({ key }) => key)).toEqual(["c", "d"]);
	const disposed = queue[Symbol.asyncDispose]();
	commits[1]!.go();
	await disposed;
	expect(told).toEqual(["a", "b", "c", "d"]);
	expect(kv.get("d")).toBeDefined();
});

test("a commit has at most 1,000 writes and 4 MiB, and a unit is never split", async () => {
	const { commits, queue } = held();
	for (let i = 0; i < 700; i++) queue.add([put(`x/${i}/a`), put(`x/${i}/b`)], () => {});
	for (let i = 0; i < 5; i++) queue.add([put(`y/${i}`, 1 << 20)], () => {});
	for (let at = 0; at < 4; at++) {
		await settled();
		commits[at]?.go();
	}
	await settled();
	expect(commits.map(({ commit }) => commit.writes.length)).toEqual([1000, 403, 2]);
	expect(queue.isFull).toBe(false);
});

test("a round has as many commits as it takes, and the next waits for all of them", async () => {
	const { commits, queue } = held();
	const told: number[] = [];
	for (let i = 0; i < 2500; i++) queue.add([put(`x/${i}`)], () => told.push(i));
	await settled();
	expect(commits.map(({ commit }) => commit.writes.length)).toEqual([1000, 1000, 500]);
	queue.add([put("y")], () => told.push(2500));
	commits[1]!.go();
	commits[2]!.go();
	await settled();
	expect(told).toEqual([]);
	expect(commits).toHaveLength(3);
	commits[0]!.go();
	await settled();
	expect(told).toEqual(Array.from({ length: 2500 }, (_, i) => i));
	expect(commits[3]!.commit.writes.map(({ key }) => key)).toEqual(["y"]);
});

test("of a shared store one commit is waited for at a time", async () => {
	const { commits, queue } = held({ shared: true });
	for (let i = 0; i < 1500; i++) queue.add([put(`x/${i}`)], () => {});
	await settled();
	expect(commits).toHaveLength(1);
	commits[0]!.go();
	await settled();
	expect(commits.map(({ commit }) => commit.writes.length)).toEqual([1000, 500]);
});

test("of two writes of a key in one commit the later stands", async () => {
	const { kv, commits, queue } = held();
	queue.add([put("k", 1)], () => {});
	queue.add([put("k", 2)], () => {});
	await settled();
	commits[0]!.go();
	await settled();
	expect(kv.get("k")!.value.byteLength).toBe(2);
});

test("a failure is told to every unit of its commit and to no other", async () => {
	const { commits, queue } = held();
	const fault = new StorageError("full", "not-written", "the disk is full");
	const first = queue.store([put("a")]);
	first.catch(() => {});
	await settled();
	const second = queue.store([put("b")]);
	commits[0]!.go(fault);
	await expect(first).rejects.toBe(fault);
	await settled();
	commits[1]!.go();
	await second;
});

test("a commit of unknown outcome is repeated under its id until it is known", async () => {
	const { clock, commits, queue } = held();
	const stored = queue.store([put("a")]);
	await settled();
	commits[0]!.go(new StorageError("unavailable", "unknown", "the connection broke"));
	await clock.advance(100);
	expect(commits[1]!.commit.id).toBe(commits[0]!.commit.id);
	commits[1]!.go();
	await stored;
	const fatal = new StorageError("fatal", "unknown", "the storage is at its end");
	const lost = queue.store([put("b")]);
	lost.catch(() => {});
	await settled();
	commits[2]!.go(fatal);
	await expect(lost).rejects.toBe(fatal);
});

test("an open unit is asked for its writes when its round begins, in its place, and what was told of its bytes counts", async () => {
	const { commits, queue } = held();
	const told: string[] = [];
	queue.add([put("a")], () => told.push("a"));
	await settled();
	const open: string[] = ["b"];
	const grow = queue.addOpen(
		() => open.map((key) => put(key)),
		() => told.push("open"),
	);
	queue.add([put("c")], () => told.push("c"));
	open.push("d");
	grow(64 * 1024 * 1024);
	expect(queue.isFull).toBe(true);
	commits[0]!.go();
	await settled();
	open.push("late");
	grow(64 * 1024 * 1024);
	expect(queue.isFull).toBe(false);
	expect(commits[1]!.commit.writes.map(({ key }) => key)).toEqual(["b", "d", "c"]);
	commits[1]!.go();
	await settled();
	expect(told).toEqual(["a", "open", "c"]);
});

test("a unit without writes costs no commit", async () => {
	const { commits, queue } = held();
	const told = Promise.withResolvers<unknown>();
	queue.addOpen(() => [], told.resolve);
	expect(await told.promise).toBeUndefined();
	expect(commits).toEqual([]);
});
