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

	it("takes linear time, whatever the glob", () => {
		const glob = parseKeyGlob(`${"a*".repeat(8)}${"**b".repeat(8)}`, "glob");
		const key = "a".repeat(512);
		const began = performance.now();
		for (let round = 0; round < 100; round++) expect(glob.matches(key)).toBe(false);
		expect(performance.now() - began).toBeLessThan(1000);
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
