import type { Ajv2020, ValidateFunction } from "ajv/dist/2020.js";
import { jsonIdentity } from "../content/json-equality.ts";
import { LinearPatterns, type PatternEngine } from "./linear-patterns.ts";
import { OutOfBudget, SchemaBudget } from "./schema-budget.ts";
import { SCHEMA_FORMATS } from "./schema-formats.ts";
import { SchemaProblem, shortened } from "./schema-problem.ts";
import { type RewrittenSchema, rewriteSchema, type SchemaCost } from "./schema-rewriter.ts";
import { describeViolation, type SchemaViolation, TOO_COSTLY } from "./schema-violation.ts";

/** A compiled schema. It keeps no state between values and may be shared. */
export interface JsonSchema {
	/**
	 * What a parsed JSON value breaks first; undefined where it is valid. Never throws, and ends after about 20 ms (80 ms with
	 * patterns made to be slow) whatever the schema and the value: a value that would take longer is refused with the rule `cost`.
	 * In a schema with `unevaluatedProperties`, members named like those that every JavaScript object has are refused.
	 */
	validate(value: unknown): SchemaViolation | undefined;
}

const importLibrary = () => import("ajv/dist/2020.js");

interface Engines {
	readonly ajv: Awaited<ReturnType<typeof importLibrary>>;
	readonly patterns: PatternEngine;
}

/** A value has a member whose name the library cannot judge. */
class InheritedName extends Error {}

/** Names that an object has of itself. */
const INHERITED: ReadonlySet<string> = new Set(Object.getOwnPropertyNames(Object.prototype));

let engines: Promise<Engines> | undefined;
const budget = new SchemaBudget();

async function load(): Promise<Engines> {
	const [ajv, patterns] = await Promise.all([importLibrary(), import("re2js")]);
	return { ajv, patterns: patterns.RE2JS };
}

/** Compiles the texts of schemas. Only loading the engines takes turns of the event loop. */
export class SchemaCompiler {
	readonly #engines: Engines;

	private constructor(loaded: Engines) {
		this.#engines = loaded;
	}

	/** Loads the engines at the first call, which takes about 100 ms. */
	static async load(): Promise<SchemaCompiler> {
		engines ??= load();
		return new SchemaCompiler(await engines);
	}

	/**
	 * Compiles a JSON Schema of draft 2020-12 that somebody wrote who is not trusted. Takes about 100 ms at worst. `SCHEMA_LIMITS` and
	 * `PATTERN_LIMITS` bound it. Formats are checked (`SCHEMA_FORMATS`); annotations are ignored; patterns have no look-around and no
	 * back references. Throws `SchemaProblem`: for what is no such schema, for unknown keywords (a misspelt one would
	 * let everything pass), references to other documents, unknown formats, and what exceeds the bounds.
	 */
	compile(text: string): JsonSchema {
		const patterns = new LinearPatterns(this.#engines.patterns, budget);
		const rewritten = rewriteSchema(text, patterns);
		const check = this.#generate(rewritten, patterns);
		return {
			validate(value) {
				budget.reset();
				try {
					if (check(value)) return undefined;
					return describeViolation(check.errors ?? [], rewritten.constants);
				} catch (error) {
					// A schema that refers to itself for the same value recurses until the stack is full.
					if (error instanceof OutOfBudget || error instanceof RangeError) return TOO_COSTLY;
					if (error instanceof InheritedName)
						return { path: "", rule: "unevaluatedProperties", message: error.message };
					throw error;
				} finally {
					check.errors = null;
				}
			},
		};
	}

	#generate(rewritten: RewrittenSchema, patterns: LinearPatterns): ValidateFunction {
		// `code` is read where the code is written to a file, which it never is.
		const regExp = Object.assign((source: string) => patterns.compile(source, ""), { code: "patterns" });
		const library = new this.#engines.ajv.Ajv2020({
			strict: false,
			meta: false,
			validateSchema: false,
			addUsedSchema: false,
			inlineRefs: false,
			ownProperties: true,
			messages: false,
			logger: false,
			loopRequired: 8,
			multipleOfPrecision: 9,
			formats: Object.fromEntries(SCHEMA_FORMATS),
			code: { regExp, optimize: false },
		});
		library.opts.dynamicRef = false;
		library.opts.unevaluated = rewritten.hasUnevaluated;
		this.#addKeywords(library, rewritten);
		try {
			return library.compile(rewritten.schema);
		} catch (error) {
			if (error instanceof SchemaProblem) throw error;
			const problem = error instanceof RangeError ? "nests too deeply" : (error as Error).message;
			throw new SchemaProblem("", `does not compile: ${shortened(problem, 120)}`);
		}
	}

	#addKeywords(library: Ajv2020, { constants, hasUnevaluated }: RewrittenSchema): void {
		const { _ } = this.#engines.ajv;
		library.addKeyword({
			keyword: "hub:cost",
			schemaType: "object",
			errors: false,
			compile: (cost: SchemaCost) => (value: unknown) => {
				charge(cost, value, hasUnevaluated);
				return true;
			},
		});
		// Before all else, so that nothing runs that is not paid for.
		const [first] = library.RULES.rules;
		first?.rules.unshift(...first.rules.splice(-1));
		library.addKeyword({
			keyword: "hub:constants",
			schemaType: "number",
			error: { message: "", params: ({ schemaCode }) => _`{constants: ${schemaCode}}` },
			compile(index: number) {
				const known = new Set(constants[index]?.values.map((value) => jsonIdentity(value)));
				return (value: unknown) => known.has(jsonIdentity(value, chargeValue));
			},
		});
		library.addKeyword({ keyword: "hub:unique", type: "array", schemaType: "boolean", validate: areDifferent });
	}
}

function charge(cost: SchemaCost, value: unknown, hasUnevaluated: boolean): void {
	let units = cost.base;
	if (typeof value === "string") units += value.length * cost.characters;
	else if (Array.isArray(value)) units += value.length * cost.items;
	else if (value !== null && typeof value === "object" && cost.members > 0) {
		const names = Object.keys(value);
		units += names.length * cost.members;
		// The library looks seen names up in an object that has these without having seen them.
		const inherited = hasUnevaluated ? names.find((name) => INHERITED.has(name)) : undefined;
		if (inherited !== undefined) throw new InheritedName(`cannot tell whether "${inherited}" was evaluated`);
	}
	budget.spend(units);
}

function chargeValue(value: unknown): void {
	if (typeof value === "string") budget.spend(10 + value.length);
	else budget.spend(value !== null && typeof value === "object" ? 10 + 10 * Object.keys(value).length : 10);
}

function areDifferent(_: boolean, items: readonly unknown[]): boolean {
	const seen = new Set<unknown>();
	return items.every((item) => {
		budget.spend(10);
		// A text goes by its identity too, which has quotes, and so differs from that of an array.
		const isPlain = item === null || typeof item === "number" || typeof item === "boolean";
		return seen.size < seen.add(isPlain ? item : jsonIdentity(item, chargeValue)).size;
	});
}
