import { type Pattern, parsePattern } from "../src/subjects/pattern.ts";
import { PatternTrie } from "../src/subjects/pattern-trie.ts";
import { parseSubject } from "../src/subjects/subject.ts";

/**
 * Matching one subject against 100,000 patterns: the trie beside a scan of the same parsed patterns. A third of the
 * patterns are exact, a third have `*`, a third end in `**`; every subject matches three of them. `fresh` subjects are
 * seen once and never answered from the trie's memory, `repeated` ones are. Median of five rounds.
 */
const PATTERNS = 100_000;
const patterns: Pattern[] = [];
for (let index = 0; patterns.length < PATTERNS; index++) {
	const head = `app${index % 50}.unit${index}`;
	patterns.push(parsePattern(`${head}.changed`, "pattern"));
	patterns.push(parsePattern(`*.unit${index}.changed`, "pattern"));
	patterns.push(parsePattern(`${head}.**`, "pattern"));
}
const trie = new PatternTrie<number>();
for (const [index, pattern] of patterns.entries()) trie.add(pattern, index);

const subjects = Array.from({ length: 30_000 }, (_, index) => `app${index % 50}.unit${index}.changed`);

function nanoseconds(rounds: number, count: number, run: (round: number, index: number) => number): number {
	const figures: number[] = [];
	for (let round = 0; round < rounds; round++) {
		let found = 0;
		const start = process.hrtime.bigint();
		for (let index = 0; index < count; index++) found += run(round, index);
		figures.push(Number(process.hrtime.bigint() - start) / count);
		if (found !== 3 * count) throw new Error(`found ${found} matches where ${3 * count} were due`);
	}
	return figures.sort((left, right) => left - right)[rounds >> 1]!;
}

const fresh = nanoseconds(5, 5000, (round, index) => trie.match(subjects[round * 5000 + index]!).length);
const repeated = nanoseconds(5, 2_000_000, (_, index) => trie.match(subjects[index % 1000]!).length);
const scan = nanoseconds(5, 20, (_, index) => {
	let found = 0;
	for (const pattern of patterns) if (pattern.matches(subjects[index]!)) found++;
	return found;
});
const parse = nanoseconds(5, 2_000_000, (_, index) => parseSubject(subjects[index % 1000]!, "type").tokens.length);

console.table([
	{ work: "match, subject seen before", nanoseconds: Math.round(repeated), ratio: Math.round(scan / repeated) },
	{ work: "match, fresh subject", nanoseconds: Math.round(fresh), ratio: Math.round(scan / fresh) },
	{ work: "linear scan of the same patterns", nanoseconds: Math.round(scan), ratio: 1 },
	{ work: "parse a subject seen before", nanoseconds: Math.round(parse), ratio: undefined },
]);
