import { expect, test } from "vitest";
import { SentIds } from "../../src/messaging/sent-ids.ts";
import { FakeClock } from "../harness/fake-clock.ts";

const MINUTE = 60_000;

test("an id is known for two minutes at least, and for four at most", async () => {
	const clock = new FakeClock();
	const ids = new SentIds<string>(clock);
	await clock.advance(MINUTE);
	ids.remember("alice", "m", "digest", "first");
	await clock.advance(2 * MINUTE);
	expect(ids.find("alice", "m", "digest")).toBe("first");
	expect(ids.find("bob", "m", "digest")).toBeUndefined();
	expect(() => ids.find("alice", "m", "other")).toThrow("other content");
	await clock.advance(2 * MINUTE);
	expect(ids.find("alice", "m", "digest")).toBeUndefined();
	expect(ids.size).toBe(0);
});

test("a flood of one sender ends the window of no other, and takes its own oldest", async () => {
	const clock = new FakeClock();
	const ids = new SentIds<number>(clock, 2000);
	const send = (source: string, count: number) => {
		for (let i = 0; i < count; i++) ids.remember(source, `m-${i}`, "", i);
	};
	const known = (source: string, count: number) =>
		Array.from({ length: count }, (_, i) => ids.find(source, `m-${i}`, "")).filter((one) => one !== undefined).length;
	send("alice", 100);
	send("bob", 300);
	await clock.advance(90_000);
	send("flood", 20_000);
	await clock.advance(2 * MINUTE - 90_000);
	// Alice's are in the older generation now.
	send("flood", 20_000);
	expect([known("alice", 100), known("bob", 300)]).toEqual([100, 300]);
	expect(ids.size).toBeLessThanOrEqual(2000);
	expect(ids.find("flood", "m-19999", "")).toBe(19_999);
	expect(ids.find("flood", "m-0", "")).toBeUndefined();
	send("other", 700);
	expect([known("alice", 100), known("bob", 300), known("other", 700)]).toEqual([100, 300, 700]);
});

test("many senders that use all the ids there are get equal shares", () => {
	const ids = new SentIds<number>(new FakeClock(), 4000);
	const sources = ["a", "b", "c", "d"];
	for (let i = 0; i < 5000; i++) for (const source of sources) ids.remember(source, `m-${i}`, "", i);
	for (const source of sources) expect(ids.find(source, "m-4500", "")).toBe(4500);
	for (let i = 0; i < 10; i++) ids.remember(`single-${i}`, "m", "", i);
	expect(ids.find("single-0", "m", "")).toBe(0);
	expect(ids.size).toBeLessThanOrEqual(4000);
});
