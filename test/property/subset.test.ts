import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { exactTopics, parsePattern } from "../../src/subjects/pattern.ts";
import { isCovered, isSubset } from "../../src/subjects/pattern-subset.ts";

const pattern = (text: string) => parsePattern(text, "pattern");

/** Every subject of one to five tokens over three words. Patterns have at most three tokens and use only two of the words. */
const universe: string[] = [];
for (let layer = [""], depth = 0; depth < 5; depth++) {
	layer = layer.flatMap((head) => ["a", "b", "z"].map((token) => (head === "" ? token : `${head}.${token}`)));
	universe.push(...layer);
}

const patternText = fc
	.tuple(fc.array(fc.constantFrom("a", "b", "*"), { maxLength: 3 }), fc.boolean(), fc.constantFrom(".", ":"))
	.filter(([tokens, open]) => tokens.length > 0 || open)
	.map(([tokens, open, separator]) => (open ? [...tokens, "**"] : tokens).join(separator));

describe("subset of patterns", () => {
	it("agrees with an enumeration of subjects", () => {
		fc.assert(
			fc.property(patternText, patternText, (inner, outer) => {
				const [wanted, allowed] = [pattern(inner), pattern(outer)];
				const enumerated = universe.every((subject) => !wanted.matches(subject) || allowed.matches(subject));
				expect(isSubset(wanted, allowed)).toBe(enumerated);
			}),
			{ numRuns: 3000 },
		);
	});

	it.each([
		["a.b", "a.b", true],
		["a:b", "a.b", true],
		["a.*", "a.b", false],
		["a.b", "a.*", true],
		["a.*", "a.**", true],
		["a.**", "a.*", false],
		["a", "a.**", true],
		["a.**", "**", true],
		["**", "a.**", false],
		["**", "*.**", true],
		["*.**", "**", true],
		["**", "*", false],
		["*", "**", true],
		["a.*.c", "a.*.*", true],
		["a.*.*", "a.*.c", false],
		["A", "a", false],
	])("%s inside %s: %s", (inner, outer, expected) => {
		expect(isSubset(pattern(inner), pattern(outer))).toBe(expected);
	});

	it("asks for one grant that covers all", () => {
		expect(isCovered(pattern("a.*"), [pattern("b.**"), pattern("a.**")])).toBe(true);
		expect(isCovered(pattern("a.**"), [pattern("a"), pattern("a.*.**")])).toBe(false);
		expect(isCovered(pattern("a"), [])).toBe(false);
	});

	it("lists the subjects of exact patterns only", () => {
		expect(exactTopics([pattern("a.b"), pattern("a:b"), pattern("c")])).toEqual(["a.b", "c"]);
		expect(exactTopics([pattern("a.b"), pattern("a.*")])).toBeUndefined();
	});
});
