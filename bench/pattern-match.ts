// P8: one subject against 100,000 patterns, by the trie and by a scan of the same parsed patterns. A third are exact, a
// third have `*`, a third end in `**`; three match each subject. Fresh subjects are never answered from the trie's memory.
import { type Pattern, parsePattern } from "../src/subjects/pattern.ts";
import { PatternTrie } from "../src/subjects/pattern-trie.ts";
import { type Benchmark, compare } from "./bench.ts";

const GROUPS = 33_334;
const FRESH_PER_ROUND = 5000;
const REPEATED = 1000;

const subject = (group: number) => `app${group % 50}.unit${group}.changed`;

/** Matches a second, with a check that nothing was missed. */
function rate(count: number, match: (index: number) => number): number {
	let found = 0;
	const start = performance.now();
	for (let index = 0; index < count; index++) found += match(index);
	const seconds = (performance.now() - start) / 1000;
	if (found !== 3 * count) throw new Error(`found ${found} matches where ${3 * count} were due`);
	return count / seconds;
}

export const benchmark: Benchmark = async ({ quick }) => {
	const patterns: Pattern[] = [];
	for (let group = 0; group < GROUPS; group++) {
		for (const text of [subject(group), `*.unit${group}.changed`, `app${group % 50}.unit${group}.**`]) {
			patterns.push(parsePattern(text, "pattern"));
		}
	}
	const trie = new PatternTrie<number>();
	for (const [value, pattern] of patterns.entries()) trie.add(pattern, value);
	const subjects = Array.from({ length: GROUPS }, (_, group) => subject(group));

	const [scan, fresh, repeated]: [number[], number[], number[]] = [[], [], []];
	for (let round = 0; round < (quick ? 1 : 5); round++) {
		scan.push(
			rate(quick ? 5 : 20, (index) => {
				let found = 0;
				for (const pattern of patterns) if (pattern.matches(subjects[index]!)) found++;
				return found;
			}),
		);
		fresh.push(rate(FRESH_PER_ROUND, (index) => trie.match(subjects[round * FRESH_PER_ROUND + index]!).length));
		repeated.push(rate(quick ? 100_000 : 2_000_000, (index) => trie.match(subjects[index % REPEATED]!).length));
	}
	return [
		compare("P8", "linear scan, fresh subjects", scan, fresh, "none / none", { reach: ">= 100" }),
		compare("P8", "linear scan, known subjects", scan, repeated, "none / none"),
	];
};
