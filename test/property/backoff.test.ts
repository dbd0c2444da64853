import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Backoff } from "../../src/streams/backoff.ts";

describe("backoff", () => {
	it("stays between 0 and a ceiling that grows up to the bound", () => {
		const uniform = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
		fc.assert(
			fc.property(fc.integer({ min: 1, max: 1000 }), fc.nat(100_000), fc.array(uniform), (initialMs, more, draws) => {
				const maxMs = initialMs + more;
				let draw = 0;
				const backoff = new Backoff({ initialMs, maxMs, random: () => draws[draw++]! });
				for (let attempt = 0; attempt < draws.length; attempt++) {
					const wait = backoff.next();
					expect(Number.isInteger(wait)).toBe(true);
					expect(wait).toBeGreaterThanOrEqual(0);
					expect(wait).toBeLessThanOrEqual(Math.min(maxMs, initialMs * 2 ** attempt));
				}
				expect(backoff.attempts).toBe(draws.length);
			}),
		);
	});

	it("reaches both ends of its interval, and starts over after a reset", () => {
		let drawn = 0.999_999;
		const backoff = new Backoff({ initialMs: 100, maxMs: 1000, factor: 3, random: () => drawn });
		expect([backoff.next(), backoff.next(), backoff.next(), backoff.next()]).toEqual([100, 300, 900, 1000]);
		backoff.reset();
		expect(backoff.next()).toBe(100);
		drawn = 0;
		expect(backoff.next()).toBe(0);
	});

	it("goes on for ever without leaving its bound", () => {
		const backoff = new Backoff({ initialMs: 10, maxMs: 500, random: () => 0.999_999 });
		for (let attempt = 0; attempt < 5000; attempt++) backoff.next();
		expect(backoff.next()).toBe(500);
	});

	it.each([
		{ initialMs: 0, maxMs: 10 },
		{ initialMs: 10, maxMs: 9 },
		{ initialMs: 10, maxMs: Number.POSITIVE_INFINITY },
		{ initialMs: Number.NaN, maxMs: 10 },
		{ initialMs: 1, maxMs: 10, factor: 1 },
	])("refuses %j", (options) => {
		expect(() => new Backoff({ ...options, random: () => 0 })).toThrow(RangeError);
	});
});
