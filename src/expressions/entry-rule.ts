import type { CelError, CelValue } from "@bufbuild/cel";
import { ExpressionCompiler } from "./compile-expression.ts";
import type { CelEngine } from "./expression-budget.ts";
import type { Vocabulary } from "./expression-check.ts";
import { readJson } from "./json-reader.ts";

/** What a rule may read of an entry that is to be written. */
export interface RuledEntry {
	readonly key: string;
	/** The new value, parsed from JSON; null where it is no JSON. */
	readonly value: unknown;
	/** The value that is there, likewise; null where there is none. */
	readonly oldValue: unknown;
	/** Whether there is an old value. */
	readonly exists: boolean;
	/** The id of the plugin that writes. */
	readonly writer: string;
}

/** A compiled rule. It keeps no state between entries and may be shared. */
export interface EntryRule {
	readonly text: string;
	/**
	 * Why the entry may not be written; undefined where the rule is true of it. A rule that gives anything but true refuses, and one that
	 * cannot be evaluated too (a member that is not there, a value of more than 10,000 values, too much work). Reads of `entry` only what
	 * the rule reads. Never throws; ends after about 20 ms at worst.
	 */
	problem(entry: RuledEntry): string | undefined;
}

const RULE: Vocabulary = Object.freeze({
	noun: "a rule",
	subject: "entry",
	length: 4096,
	variables: new Map([
		["key", { kind: "other" }],
		["value", { kind: "unknown" }],
		["old_value", { kind: "unknown" }],
		["exists", { kind: "bool" }],
		["writer", { kind: "other" }],
	] as const),
});

/** Compiles rules of entries. Only loading the engine takes turns of the event loop. */
export class EntryRuleCompiler {
	readonly #compiler: ExpressionCompiler;

	private constructor(compiler: ExpressionCompiler) {
		this.#compiler = compiler;
	}

	static async load(): Promise<EntryRuleCompiler> {
		return new EntryRuleCompiler(await ExpressionCompiler.load());
	}

	/**
	 * Compiles a CEL expression over `key`, `value`, `old_value`, `exists` and `writer`. Numbers in values are doubles; they
	 * compare with integer literals. Refuses with INVALID_FILTER, naming `field`, what does not compile or is too large.
	 */
	compile(text: string, field: string): EntryRule {
		const expression = this.#compiler.compile(text, field, RULE);
		return {
			text,
			problem(entry) {
				const result = expression.evaluate((engine) => new EntryVariables(entry, engine));
				if (result === true) return undefined;
				if (result instanceof Error) return result.message;
				return result === false ? "the rule is not true of the entry" : "the rule does not give a bool";
			},
		};
	}
}

/** The variables of one evaluation, made when the rule reads them. */
class EntryVariables {
	readonly key: string;
	readonly exists: boolean;
	readonly writer: string;
	readonly #entry: RuledEntry;
	readonly #engine: CelEngine;
	#value: CelValue | CelError | undefined;
	#oldValue: CelValue | CelError | undefined;

	constructor(entry: RuledEntry, engine: CelEngine) {
		this.key = entry.key;
		this.exists = entry.exists;
		this.writer = entry.writer;
		this.#entry = entry;
		this.#engine = engine;
	}

	get value(): CelValue | CelError {
		this.#value ??= this.#read(this.#entry.value, "the value");
		return this.#value;
	}

	get old_value(): CelValue | CelError {
		this.#oldValue ??= this.#read(this.#entry.oldValue, "the old value");
		return this.#oldValue;
	}

	#read(json: unknown, what: string): CelValue | CelError {
		try {
			return readJson(this.#engine, json, what);
		} catch (error) {
			return this.#engine.celError(error);
		}
	}
}
