import fc from "fast-check";
import { expect, test } from "vitest";
import { DeadlineQueue } from "../../src/streams/deadline-queue.ts";
import { FakeClock } from "../harness/fake-clock.ts";

const step = fc.oneof(
	fc.record({ kind: fc.constant("add" as const), inMs: fc.nat(1000) }),
	fc.record({ kind: fc.constant("remove" as const), pick: fc.nat(100) }),
	fc.record({ kind: fc.constant("advance" as const), ms: fc.nat(300) }),
);

test("every deadline runs once, when it is due, unless it was removed", async () => {
	await fc.assert(
		fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
			const clock = new FakeClock();
			const queue = new DeadlineQueue(clock);
			const waiting = new Set<{ at: number; slot: number; run(): void }>();
			for (const step of steps) {
				if (step.kind === "add") {
					const deadline = {
						at: clock.monotonic() + step.inMs,
						slot: -1,
						run: () => {
							expect(waiting.delete(deadline)).toBe(true);
							expect(clock.monotonic()).toBe(deadline.at);
						},
					};
					waiting.add(deadline);
					queue.add(deadline);
				} else if (step.kind === "remove") {
					const deadline = [...waiting][step.pick % Math.max(1, waiting.size)];
					if (deadline === undefined) continue;
					waiting.delete(deadline);
					queue.remove(deadline);
					queue.remove(deadline);
				} else {
					await clock.advance(step.ms);
					for (const deadline of waiting) expect(deadline.at).toBeGreaterThan(clock.monotonic());
				}
				expect(queue.size).toBe(waiting.size);
			}
			queue[Symbol.dispose]();
			expect(clock.pendingTimers).toBe(0);
		}),
		{ numRuns: 200 },
	);
});
