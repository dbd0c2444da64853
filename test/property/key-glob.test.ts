import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { HubError } from "../../src/hub-error.ts";
import { GLOB_LIMITS, parseKeyGlob } from "../../src/subjects/key-glob.ts";

/** As the rules are written, by trying every way. */
function naive(glob: readonly string[], key: readonly string[]): boolean {
	const [first, ...rest] = glob;
	if (first === undefined) return key.length === 0;
	if (first === "**" || first === "*") {
		const run = first === "**" ? key.length : Math.max(0, [...key, "/"].indexOf("/"));
		return Array.from({ length: run + 1 }, (_, taken) => taken).some((taken) => naive(rest, key.slice(taken)));
	}
	if (key.length === 0) return false;
	const isSame = first === "?" ? key[0] !== "/" : first.replace("\\", "") === key[0];
	return isSame && naive(rest, key.slice(1));
}

const characters = ["a", "b", "/", "*", "?", "\\", "😀", "é"];
const part = fc.constantFrom("a", "b", "/", "*", "**", "?", "\\*", "\\?", "\\\\", "\\a", "😀", "\\😀");
const globParts = fc
	.array(part, { minLength: 1, maxLength: 8 })
	// Two that stand beside each other are read as one.
	.map((parts) => parts.filter((each, at) => !(each.startsWith("*") && parts[at - 1]?.endsWith("*"))))
	.filter((parts) => parts.every((each, at) => !(each.startsWith("*") && parts[at - 1] === "*")));
const keys = fc.array(fc.constantFrom(...characters), { maxLength: 8 });

describe("a glob over keys", () => {
	it("agrees with a naive model", () => {
		fc.assert(
			fc.property(globParts, keys, (parts, key) => {
				const glob = parseKeyGlob(parts.join(""), "glob");
				expect(glob.matches(key.join(""))).toBe(naive(parts, key));
			}),
			{ numRuns: 20_000 },
		);
	});

	it("gives a prefix that every key has which it matches", () => {
		fc.assert(
			fc.property(globParts, keys, (parts, key) => {
				const glob = parseKeyGlob(parts.join(""), "glob");
				const text = key.join("");
				if (glob.matches(text)) expect(text.startsWith(glob.prefix)).toBe(true);
				if (glob.isExact) expect(glob.matches(glob.prefix)).toBe(true);
			}),
			{ numRuns: 5000 },
		);
	});

	it.each([
		["users/*", "users/", false],
		["users/\\*/x", "users/*/x", true],
		["**", "", false],
		["a?b", "a", false],
	])("%s: prefix %s", (text, prefix, isExact) => {
		const glob = parseKeyGlob(text, "glob");
		expect([glob.prefix, glob.isExact]).toEqual([prefix, isExact]);
	});

	it("agrees with it where it is longer than what one step looks at", () => {
		const long = "abcdefgh".repeat(12);
		for (const length of [30, 31, 32, 33, 63, 64, 65, 96]) {
			const text = long.slice(0, length);
			const glob = parseKeyGlob(`?*${text}**/?${text}`, "glob");
			for (const [key, isMatch] of [
				[`xy${text}a/b/c${text}`, true],
				[`x${text}/é${text}`, true],
				[`x/${text}/b${text}`, false],
				[`x${text}//${text}`, false],
				[`x${text}/b${text.slice(1)}`, false],
				[`x${text}b/${text}/b${text}`, true],
			] as const) {
				expect([text, key, glob.matches(key)]).toEqual([text, key, isMatch]);
			}
		}
	});

	it.each([
		["runs that each may end anywhere", `${"a*".repeat(8)}${"**b".repeat(8)}`, "a".repeat(512)],
		["runs and nothing that ends them", `${"*a".repeat(15)}?a`, `${"a".repeat(510)}/a`],
		["a long text behind runs", `${"**a".repeat(15)}*${"a".repeat(460)}`, `${"a".repeat(50)}b${"a".repeat(461)}`],
	])("takes little time, whatever the glob: %s", (_, text, key) => {
		const glob = parseKeyGlob(text, "glob");
		let quickest = Number.POSITIVE_INFINITY;
		for (let round = 0; round < 20; round++) {
			const began = performance.now();
			for (let turn = 0; turn < 100; turn++) glob.matches(key);
			quickest = Math.min(quickest, performance.now() - began);
		}
		// One page looks at thousands of keys, and nobody else is served meanwhile.
		expect(quickest / 100).toBeLessThan(0.05);
	});

	it.each([
		["", "is empty"],
		["a\\", "ends with a \\"],
		["é".repeat(257), `more than ${GLOB_LIMITS.bytes} bytes`],
		["?".repeat(17), `more than ${GLOB_LIMITS.wildcards} wildcards`],
	])("is refused: %#", (text, problem) => {
		const parse = () => parseKeyGlob(text, "watches[1].glob");
		expect(parse).toThrow(HubError);
		expect(parse).toThrow(`watches[1].glob: ${problem.startsWith("more") ? "has " : ""}${problem}`);
		expect(() => parseKeyGlob("?".repeat(16), "glob")).not.toThrow();
	});
});
