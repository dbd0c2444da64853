import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Pattern, parsePattern } from "../../src/subjects/pattern.ts";
import { PatternTrie } from "../../src/subjects/pattern-trie.ts";

const token = fc.constantFrom("a", "b", "c", "__proto__", "constructor");
const separator = fc.constantFrom(".", ":");

function joined(tokens: readonly string[], separators: readonly string[]): string {
	return tokens
		.map((token, index) => (index === 0 ? token : `${separators[index % separators.length]}${token}`))
		.join("");
}

const separators = fc.array(separator, { minLength: 1, maxLength: 4 });
const subjectTokens = fc.array(token, { minLength: 1, maxLength: 5 });
const patternText = fc
	.tuple(fc.array(fc.oneof(token, fc.constant("*")), { maxLength: 5 }), fc.boolean(), separators)
	.filter(([tokens, open]) => tokens.length > 0 || open)
	.map(([tokens, open, between]) => joined(open ? [...tokens, "**"] : tokens, between));

/** The definition, token by token, with none of the code under test. */
function naive(pattern: string, tokens: readonly string[]): boolean {
	const step = (wanted: readonly string[], given: readonly string[]): boolean => {
		if (wanted.length === 0) return given.length === 0;
		if (wanted[0] === "**") return true;
		return given.length > 0 && (wanted[0] === "*" || wanted[0] === given[0]) && step(wanted.slice(1), given.slice(1));
	};
	return step(pattern.split(/[.:]/), tokens);
}

const sorted = (values: Iterable<number>) => [...values].sort((left, right) => left - right);

describe("pattern matching", () => {
	it("tests one pattern as the definition says", () => {
		fc.assert(
			fc.property(patternText, subjectTokens, (pattern, tokens) => {
				expect(parsePattern(pattern, "pattern").matches(tokens.join("."))).toBe(naive(pattern, tokens));
			}),
			{ numRuns: 2000 },
		);
	});

	it("finds what a scan finds, while values come and go", () => {
		const step = fc.oneof(
			fc.record({ pattern: patternText, value: fc.nat(6) }),
			fc.record({ remove: fc.nat(40) }),
			fc.record({ match: subjectTokens }),
		);
		const asked = ["a", "b", "a.b", "a.a.b", "b.c.a", "c.c", "__proto__", "constructor.a"].map((text) =>
			text.split("."),
		);
		fc.assert(
			fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
				const trie = new PatternTrie<number>();
				const filed: { pattern: string; value: number; entry: Disposable }[] = [];
				const check = (tokens: readonly string[]) => {
					const expected = new Set(filed.filter((one) => naive(one.pattern, tokens)).map((one) => one.value));
					expect(sorted(trie.match(tokens.join(".")))).toEqual(sorted(expected));
				};
				for (const step of steps) {
					if ("pattern" in step) {
						filed.push({ ...step, entry: trie.add(parsePattern(step.pattern, "pattern"), step.value) });
					} else if ("remove" in step) {
						const [gone] = filed.splice(step.remove % Math.max(filed.length, 1), 1);
						gone?.entry[Symbol.dispose]();
						gone?.entry[Symbol.dispose]();
					} else {
						check(step.match);
					}
					for (const tokens of asked) check(tokens);
					expect(trie.size).toBe(filed.length);
				}
				for (const one of filed) one.entry[Symbol.dispose]();
				expect(trie.size).toBe(0);
				expect(trie.nodes).toBe(0);
			}),
			{ numRuns: 500 },
		);
	});

	it("leaves an answer as it was when patterns change", () => {
		const trie = new PatternTrie<string>();
		const first = trie.add(parsePattern("a.*", "pattern"), "one");
		const answer = trie.match("a.b");
		trie.add(parsePattern("a:**", "pattern"), "two");
		expect(answer).toEqual(["one"]);
		expect(sorted(trie.match("a.b").map((value) => value.length))).toEqual([3, 3]);
		first[Symbol.dispose]();
		expect(trie.match("a.b")).toEqual(["two"]);
		expect(trie.match("b")).toEqual([]);
	});

	it("keeps its memory bounded over ever new subjects", () => {
		setFlagsFromString("--expose-gc");
		const collectGarbage: () => void = runInNewContext("gc");
		const heapAfter = (): number => {
			collectGarbage();
			return process.memoryUsage().heapUsed;
		};
		const trie = new PatternTrie<number>();
		for (let value = 0; value < 1000; value++) trie.add(parsePattern("**", "pattern"), value);
		const before = heapAfter();
		for (let index = 0; index < 20_000; index++) expect(trie.match(`a.${index}`).length).toBe(1000);
		expect(heapAfter() - before, "20,000 answers kept would be 160 MB").toBeLessThan(16_000_000);
		expect(trie.size).toBe(1000);
	});
});

describe("what a pattern may be", () => {
	const problemOf = (text: string): string => {
		try {
			parsePattern(text, "patterns[2]");
		} catch (error) {
			return `${(error as { reason?: string }).reason} ${(error as Error).message}`;
		}
		return "accepted";
	};

	it.each([
		["a..b", "token 2 is empty"],
		["", "is empty"],
		[".a", "token 1 is empty"],
		["a:", "token 2 is empty"],
		["**.a", 'token 1 is "**", which may only be the last token'],
		["a.**.b", 'token 2 is "**", which may only be the last token'],
		["a*", 'token 1 mixes "*" with other characters'],
		["a.***", 'token 2 mixes "*" with other characters'],
		["a.b c", 'token 2 has " "'],
		["a.é", 'token 2 has "é"'],
		["x".repeat(65), "token 1 has 65 characters"],
		["x".repeat(5000), "has 5000 characters"],
		[Array(17).fill("a").join("."), "has 17 tokens"],
		[`${"a.".repeat(16)}**`, "has 17 tokens"],
	])("refuses %j", (text, problem) => {
		expect(problemOf(text)).toContain(`INVALID_PATTERN patterns[2]: `);
		expect(problemOf(text)).toContain(problem);
	});

	it.each(["a", "*", "**", "a.*.b", "a:**", "*.*", Array(16).fill("*").join(":")])("takes %j", (text) => {
		const pattern: Pattern = parsePattern(text, "pattern");
		expect(pattern.spelling).toBe(text);
		expect(pattern.canonical).toBe(text.replaceAll(":", "."));
	});
});
