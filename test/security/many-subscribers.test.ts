import { expect, it } from "vitest";
import { parsePattern } from "../../src/subjects/pattern.ts";
import { PatternTrie } from "../../src/subjects/pattern-trie.ts";

// A connection that ends takes all of its subscriptions with it in one turn of the event loop.
it.each(["a.b", "a.*", "a.**"])("100,000 values under %s leave in no time", (text) => {
	const trie = new PatternTrie<number>();
	const pattern = parsePattern(text, "pattern");
	const filed = Array.from({ length: 100_000 }, (_, value) => trie.add(pattern, value));
	const start = performance.now();
	for (const entry of filed.reverse()) entry[Symbol.dispose]();
	expect(performance.now() - start).toBeLessThan(1000);
	expect(trie.nodes).toBe(0);
});

it("a value that was added twice stays until both have left", () => {
	const trie = new PatternTrie<string>();
	const pattern = parsePattern("a.*", "pattern");
	const [first, second] = [trie.add(pattern, "x"), trie.add(pattern, "x")];
	first![Symbol.dispose]();
	first![Symbol.dispose]();
	expect(trie.match("a.b")).toEqual(["x"]);
	second![Symbol.dispose]();
	expect(trie.match("a.b")).toEqual([]);
});
