import fc from "fast-check";
import { expect, test } from "vitest";
import { IdWindow } from "../../src/state/id-window.ts";

const MAX_IDS = 40;

/** Hashes whose homes in the table crowd together and wrap round its end. */
const hash = fc.record({ high: fc.nat({ max: 2 }), low: fc.constantFrom(0, 1, 2, 3, 2047, 2046, 2048, 4095, 4096) });
const step = fc.oneof(
	{ weight: 8, arbitrary: fc.record({ kind: fc.constant("add" as const), hash }) },
	{ weight: 2, arbitrary: fc.record({ kind: fc.constant("drop newest" as const), count: fc.nat({ max: 5 }) }) },
	{ weight: 1, arbitrary: fc.record({ kind: fc.constant("mark" as const), ms: fc.nat({ max: 400 }) }) },
);

test("an IdWindow finds what a plain list of the newest ids holds, however the hashes crowd", () => {
	fc.assert(
		fc.property(fc.array(step, { maxLength: 200, size: "max" }), (steps) => {
			const window = new IdWindow({ maxIds: MAX_IDS, maxAgeMs: 1000 });
			let list: { high: number; low: number; sequence: number; time: number }[] = [];
			let time = 0;
			let sequence = 0;
			for (const each of steps) {
				if (each.kind === "add") {
					window.add(each.hash, ++sequence);
					list = [...list, { ...each.hash, sequence, time }].slice(-MAX_IDS);
				} else if (each.kind === "drop newest") {
					window.dropNewest(each.count);
					list = list.slice(0, Math.max(0, list.length - each.count));
				} else {
					time += each.ms;
					window.mark(time);
					// What is not too old must be there; how soon the rest goes is the window's business.
					const kept = list.slice(list.length - window.size);
					expect(kept.length).toBeGreaterThanOrEqual(list.filter((one) => time - one.time <= 1000).length);
					list = kept;
				}
				expect(window.size).toBe(list.length);
				for (const one of list) {
					expect(window.find(one, (candidate) => candidate === one.sequence)).toBe(one.sequence);
					const newest = list.findLast(({ high, low }) => high === one.high && low === one.low);
					expect(window.find(one, () => true)).toBe(newest?.sequence);
				}
				expect(window.find({ high: 9, low: 1 }, () => true)).toBeUndefined();
			}
		}),
	);
});
