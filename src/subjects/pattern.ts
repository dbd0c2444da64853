import { HubError } from "../hub-error.ts";
import { lengthProblem, MAX_TOKENS, splitTokens, tokenProblem } from "./token.ts";

/** What a caller is interested in: a subject in which `*` stands for one token and a last `**` for zero or more. */
export interface Pattern {
	/** As the caller wrote it. */
	readonly spelling: string;
	/** The tokens joined by `.`; equal for patterns that differ in separators only. */
	readonly canonical: string;
	/** The tokens without the last `**`. */
	readonly prefix: readonly string[];
	/** Whether it ends in `**`. */
	readonly open: boolean;
	/** Whether it has no wildcard and so matches the one subject that `canonical` names. */
	readonly isExact: boolean;
	/** Whether it matches the subject of this canonical form. A test of one pattern: for many use `PatternTrie`. */
	matches(canonical: string): boolean;
}

/**
 * 1 to 16 tokens, split by `.` or `:`, each a plain token, `*`, or (last only) `**`. Refuses with INVALID_PATTERN,
 * naming `field`, the token and what is wrong with it.
 */
export function parsePattern(text: string, field: string): Pattern {
	const tokens = text.length === 0 ? [] : splitTokens(text);
	const problem = lengthProblem(text, "a pattern") ?? tokensProblem(tokens);
	if (problem !== undefined) throw HubError.field(field, problem, "INVALID_PATTERN");
	return new ParsedPattern(text, tokens);
}

/**
 * The complete list of subjects that the patterns match, where no pattern has a wildcard; undefined where any has. For
 * readers that can look subjects up in an index.
 */
export function exactTopics(patterns: readonly Pattern[]): readonly string[] | undefined {
	if (!patterns.every((pattern) => pattern.isExact)) return undefined;
	return [...new Set(patterns.map((pattern) => pattern.canonical))];
}

function tokensProblem(tokens: readonly string[]): string | undefined {
	for (const [index, token] of tokens.entries()) {
		if (token === "*") continue;
		if (token === "**") {
			if (index === tokens.length - 1) continue;
			return `token ${index + 1} is "**", which may only be the last token`;
		}
		if (token.includes("*")) {
			return `token ${index + 1} mixes "*" with other characters; a wildcard stands for a whole token`;
		}
		const problem = tokenProblem(token, index);
		if (problem !== undefined) return problem;
	}
	return tokens.length > MAX_TOKENS ? `has ${tokens.length} tokens; at most ${MAX_TOKENS} are allowed` : undefined;
}

class ParsedPattern implements Pattern {
	readonly spelling: string;
	readonly canonical: string;
	readonly prefix: readonly string[];
	readonly open: boolean;
	readonly isExact: boolean;

	constructor(spelling: string, tokens: readonly string[]) {
		this.spelling = spelling;
		this.canonical = tokens.join(".");
		this.open = tokens.at(-1) === "**";
		this.prefix = Object.freeze(this.open ? tokens.slice(0, -1) : tokens);
		this.isExact = !this.open && !tokens.includes("*");
	}

	matches(canonical: string): boolean {
		if (this.isExact) return canonical === this.canonical;
		let at = 0;
		for (const token of this.prefix) {
			if (at > canonical.length) return false;
			const dot = canonical.indexOf(".", at);
			const end = dot < 0 ? canonical.length : dot;
			if (token !== "*" && (end - at !== token.length || !canonical.startsWith(token, at))) return false;
			at = end + 1;
		}
		return this.open || at > canonical.length;
	}
}
