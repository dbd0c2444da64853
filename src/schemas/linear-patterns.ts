import type { SchemaBudget } from "./schema-budget.ts";
import { SchemaProblem, shortened } from "./schema-problem.ts";

/** The engine, loaded when the first schema is compiled. */
export type PatternEngine = typeof import("re2js").RE2JS;

/** Bounds of the patterns of one schema. */
export const PATTERN_LIMITS = Object.freeze({
	/** Patterns, those that are alike counted once. */
	count: 128,
	/** Characters of one. */
	length: 1024,
	/** Instructions of one. */
	size: 1000,
	/** Instructions of all. */
	sizes: 5000,
	/** Bytes of states that the engine keeps for one. */
	memory: 256 * 1024,
});
/** Units a character of a pattern of which each character leaves one way to go on; most that begin with `^` are such. */
const ONE_WAY = 10;
/** Instructions up to which the states of the others are soon all known. */
const SMALL = 32;
/** Units a character and instruction while the states are known, and where they are not. */
const KNOWN = 0.5;
const UNKNOWN = 5;

/** One pattern as the validator's code calls it. */
export interface LinearPattern {
	test(text: string): boolean;
	/** Names it among the patterns of its schema. */
	toString(): string;
}

/**
 * The patterns of one schema, run by an engine whose time is linear in the text: none of them can take for ever. They are
 * ECMA-262 patterns without look-around and back references. Each run is charged.
 */
export class LinearPatterns {
	readonly #engine: PatternEngine;
	readonly #budget: SchemaBudget;
	readonly #patterns = new Map<string, LinearPattern>();
	#sizes = 0;

	constructor(engine: PatternEngine, budget: SchemaBudget) {
		this.#engine = engine;
		this.#budget = budget;
	}

	/** Throws `SchemaProblem` for a pattern that the engine does not take, or that is too large. */
	compile(source: string, pointer: string): LinearPattern {
		const known = this.#patterns.get(source);
		if (known !== undefined) return known;
		const { count, length, size, sizes } = PATTERN_LIMITS;
		if (this.#patterns.size >= count) throw new SchemaProblem(pointer, `there are more than ${count} patterns`);
		if (source.length > length) throw new SchemaProblem(pointer, `the pattern has more than ${length} characters`);
		const compiled = this.#compiled(source, pointer);
		const instructions = compiled.programSize();
		this.#sizes += instructions;
		if (instructions > size || this.#sizes > sizes) {
			throw new SchemaProblem(pointer, "the pattern is too large: repeat less, or use minLength and maxLength");
		}
		const perCharacter = this.#unitsPerCharacter(compiled, instructions);
		const budget = this.#budget;
		const pattern: LinearPattern = {
			test(text) {
				budget.spend(10 + text.length * perCharacter);
				return compiled.test(text);
			},
			toString: () => source,
		};
		this.#patterns.set(source, pattern);
		return pattern;
	}

	#unitsPerCharacter(compiled: InstanceType<PatternEngine>, instructions: number): number {
		const engine = compiled.re2();
		if (engine.onepass !== null) return ONE_WAY;
		Object.assign(engine.dfa, { stateBudget: PATTERN_LIMITS.memory, memBudget: PATTERN_LIMITS.memory });
		return ONE_WAY + KNOWN * Math.min(instructions, SMALL) + UNKNOWN * Math.max(instructions - SMALL, 0);
	}

	#compiled(source: string, pointer: string): InstanceType<PatternEngine> {
		try {
			return this.#engine.compile(this.#engine.translateRegExp(source));
		} catch (error) {
			const problem = error instanceof Error ? error.message.replace("error parsing regexp: ", "") : String(error);
			throw new SchemaProblem(pointer, `the pattern does not compile: ${shortened(problem, 120)}`);
		}
	}
}
