import { expect, test } from "vitest";
import { DeadLetters } from "../../src/dead-letters/dead-letters.ts";
import { CommitQueue } from "../../src/state/commit-queue.ts";
import { VolatileKvStore } from "../../src/state/volatile-kv-store.ts";
import { FakeClock, SequentialIds } from "../harness/fake-clock.ts";

function open(letters = 3, bytes = 10_000) {
	const clock = new FakeClock();
	const kv = new VolatileKvStore(clock);
	const queue = new CommitQueue({ kv, clock, ids: new SequentialIds("commit-") });
	const options = { kv, queue, clock, bounds: { letters, bytes } };
	const store = new DeadLetters({ ...options, ids: new SequentialIds("letter-") });
	const again = (clock = options.clock) => {
		const next = new DeadLetters({ ...options, clock, ids: new SequentialIds("later-") });
		next.load();
		return next;
	};
	const park = async (text: string, size = 10, { origin = "mailbox", into = store } = {}) => {
		const draft = { pluginId: "bob", origin, item: Buffer.alloc(size), attempts: 1, reason: text };
		const change = into.park(draft);
		await queue.store(change.writes);
		change.settled(true);
	};
	return {
		clock,
		store,
		park,
		again,
		reasons: (of = store) => of.list("bob", 100, "").letters.map(({ reason }) => reason),
	};
}

test("the oldest letters make room for the newest, by number, and are counted", async () => {
	const { store, park, again, reasons } = open();
	for (const text of ["a", "b", "c", "d", "e"]) await park(text);
	expect(reasons()).toEqual(["c", "d", "e"]);
	expect([store.parked, store.dropped, store.size]).toEqual([5, 2, 3]);
	expect(reasons(again())).toEqual(["c", "d", "e"]);
	expect(again().size).toBe(3);
});

test("the oldest letters make room by bytes, and the newest stays however large it is", async () => {
	const { store, park, reasons } = open(100, 2_000);
	for (const text of ["a", "b", "c"]) await park(text, 600);
	expect(reasons()).toEqual(["a", "b", "c"]);
	await park("d", 900);
	expect(reasons()).toEqual(["c", "d"]);
	await park("huge", 5_000);
	expect(reasons()).toEqual(["huge"]);
	expect(store.dropped).toBe(4);
});

test("a letter whose commit fails is not there, and those that were to make room are", async () => {
	const { store, park, reasons } = open();
	for (const text of ["a", "b", "c"]) await park(text);
	const change = store.park({ pluginId: "bob", origin: "mailbox", item: Buffer.alloc(1), attempts: 1, reason: "d" });
	expect(() => store.get("bob", store.list("bob", 1, "").letters[0]!.id)).toThrow("no such dead letter");
	change.settled(false);
	expect(reasons()).toEqual(["a", "b", "c"]);
	expect(store.get("bob", store.list("bob", 1, "").letters[0]!.id).reason).toBe("a");
	expect([store.parked, store.dropped, store.size]).toEqual([3, 0, 3]);
});

test("what is being taken out cannot be taken again, until that comes to nothing", async () => {
	const { store, park } = open();
	await park("a");
	const [{ id } = { id: "" }] = store.list("bob", 1, "").letters;
	const first = store.take("bob", id);
	expect(() => store.take("bob", id)).toThrow("no such dead letter");
	await expect(store.delete("bob", id)).rejects.toThrow("no such dead letter");
	first.settled(false);
	await store.delete("bob", id);
	expect(store.size).toBe(0);
});

test("letters keep the order in which they came, within a millisecond and where the clock goes back", async () => {
	const { clock, park, again, reasons } = open(100);
	const texts = Array.from({ length: 20 }, (_, index) => `${index}`);
	for (const text of texts) await park(text);
	const later = again(new FakeClock(clock.now() - 60_000));
	await park("after", 10, { into: later });
	expect(reasons(later)).toEqual([...texts, "after"]);
	expect(later.oldest("bob", 3).ids).toEqual(later.list("bob", 3, "").letters.map(({ id }) => id));
});

test("letters are picked by their origin, oldest first", async () => {
	const { store, park, again } = open(100);
	for (const [index, origin] of ["mailbox", "subscription/a", "subscription/b", "subscription/a"].entries()) {
		await park(`${index}`, 10, { origin });
	}
	for (const each of [store, again()]) {
		const picked = each.oldest("bob", 1, "subscription/a");
		expect(picked.more).toBe(true);
		expect(each.get("bob", picked.ids[0]!).reason).toBe("1");
		expect(each.oldest("bob", 2, "subscription/a").more).toBe(false);
		expect(each.list("bob", 100, "", "subscription/a").letters.map(({ reason }) => reason)).toEqual(["1", "3"]);
		expect(each.oldest("bob", 5, "subscription").ids).toEqual([]);
	}
});

test("a plugin that is gone leaves no letters, not those either that were being taken out", async () => {
	const { store, park, again } = open();
	await park("a");
	await park("b");
	const taken = store.take("bob", store.list("bob", 1, "").letters[0]!.id);
	await store.purge("bob");
	taken.settled(false);
	expect(store.size).toBe(0);
	expect(again().size).toBe(0);
});
