import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FakeClock, SequentialIds } from "../harness/fake-clock.ts";

describe("the held clock", () => {
	it("runs timers in the order of their due time, then of their start", async () => {
		await fc.assert(
			fc.asyncProperty(
				fc.array(fc.nat(20), { maxLength: 20 }),
				fc.array(fc.nat(9), { maxLength: 5 }),
				async (waits, steps) => {
					const clock = new FakeClock();
					const ran: number[] = [];
					waits.forEach((wait, index) => {
						clock.after(wait, () => {
							expect(clock.monotonic()).toBe(wait);
							ran.push(index);
						});
					});
					for (const step of steps) await clock.advance(step);
					const end = steps.reduce((sum, step) => sum + step, 0);
					const due = [...waits.entries()].filter(([, wait]) => wait <= end && steps.length > 0);
					due.sort(([left, leftWait], [right, rightWait]) => leftWait - rightWait || left - right);
					expect(ran).toEqual(due.map(([index]) => index));
					expect(clock.pendingTimers).toBe(waits.length - ran.length);
					expect(clock.monotonic()).toBe(end);
				},
			),
			{ numRuns: 100 },
		);
	});

	it("repeats until cancelled, and runs what a timer's promises start", async () => {
		const clock = new FakeClock(1000);
		const seen: string[] = [];
		const every = clock.every(10, () => seen.push(`every ${clock.monotonic()}`));
		clock.after(5, () => {
			void Promise.resolve()
				.then(() => Promise.resolve())
				.then(() => clock.after(10, () => seen.push(`later ${clock.monotonic()}`)));
		});
		await clock.advance(25);
		expect(seen).toEqual(["every 10", "later 15", "every 20"]);
		every.cancel();
		every.cancel();
		await clock.advance(100);
		expect(seen).toHaveLength(3);
		expect(clock.pendingTimers).toBe(0);
		expect(clock.now()).toBe(1125);
		clock.stepWall(-5000);
		expect(clock.now()).toBe(-3875);
		expect(clock.monotonic()).toBe(125);
	});

	it("passes on what a timer throws", async () => {
		const clock = new FakeClock();
		clock.after(1, () => {
			throw new Error("from the timer");
		});
		await expect(clock.advance(1)).rejects.toThrow("from the timer");
		expect(clock.pendingTimers).toBe(0);
	});
});

describe("ids in sequence", () => {
	it("are named and never repeat", () => {
		const ids = new SequentialIds("m");
		expect([ids.next(), ids.next(), ids.next()]).toEqual(["m1", "m2", "m3"]);
	});
});
