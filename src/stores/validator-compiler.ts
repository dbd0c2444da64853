import type { StoreValidator } from "#gen/qirvo/hub/v1/stores_pb.js";
import { EntryRuleCompiler } from "../expressions/entry-rule.ts";
import { HubError } from "../hub-error.ts";
import { SchemaCompiler } from "../schemas/json-schema.ts";
import { SchemaProblem } from "../schemas/schema-problem.ts";
import { type KeyGlob, parseKeyGlob } from "../subjects/key-glob.ts";
import type { CompileValidators, EntryValidators, JudgedWrite } from "./entry-validators.ts";
import { EntryToJudge, type JudgedEntry } from "./judged-entry.ts";

/** What a validator finds wrong with a value. Each part is cut to a few hundred characters. */
export interface EntryProblem {
	/** Where in the value, a JSON Pointer; default: the whole. */
	readonly path?: string;
	/** The rule that it breaks; default `function`. */
	readonly rule?: string;
	/** For people. */
	readonly message: string;
}

/**
 * A validator that the hub's embedder gives: what is wrong with the value, or undefined. It is called for each write, in between others,
 * so it must be quick and give its answer at once. A value is refused where it throws.
 */
export type EntryFunction = (entry: JudgedEntry) => EntryProblem | undefined;

/** Validators of one store. */
export const MAX_VALIDATORS = 8;
/** What is kept compiled; the rest is compiled again when it is asked. */
const KEPT = Object.freeze({ stores: 1000, characters: 4 * 1024 * 1024 });

const NAME = /^[a-z0-9][a-z0-9._-]{0,127}$/;
const MAX_TEXT = 512;

/** One validator, compiled. */
interface Judge {
	readonly name: string;
	readonly glob: KeyGlob | undefined;
	readonly judge: (entry: EntryToJudge) => EntryProblem | undefined;
}

interface Engines {
	schemas: SchemaCompiler | undefined;
	rules: EntryRuleCompiler | undefined;
}

/**
 * Compiles the validators of stores. The engines are loaded with the first store that needs them. A bounded number of
 * stores is kept compiled; what was put out compiles again in between, which takes up to 100 ms a schema.
 */
export class ValidatorCompiler {
	readonly #functions: ReadonlyMap<string, EntryFunction>;
	readonly #engines: Engines = { schemas: undefined, rules: undefined };
	/** Those that are compiled, in the order in which they are looked at when room is needed. */
	readonly #kept = new Set<CompiledValidators>();
	#characters = 0;

	/** `functions` are the embedder's validators by name. */
	constructor(functions: ReadonlyMap<string, EntryFunction> = new Map()) {
		this.#functions = functions;
	}

	readonly compile: CompileValidators = async (validators, stored) => {
		if (validators.length > MAX_VALIDATORS) {
			throw HubError.field("config.validators", `has ${validators.length}; at most ${MAX_VALIDATORS} are allowed`);
		}
		if (stored === undefined) checkNames(validators);
		const kinds = new Set(validators.map(({ rule }) => rule.case));
		if (kinds.has("jsonSchema")) this.#engines.schemas ??= await SchemaCompiler.load();
		if (kinds.has("cel")) this.#engines.rules ??= await EntryRuleCompiler.load();
		const compiled = new CompiledValidators(validators, this);
		if (stored === undefined) compiled.compile();
		return compiled;
	};

	/** Stores that are compiled now. */
	get size(): number {
		return this.#kept.size;
	}

	judges(validators: readonly StoreValidator[]): Judge[] {
		return validators.map((validator, at) => this.#judge(validator, `config.validators[${at}]`));
	}

	keep(compiled: CompiledValidators): void {
		this.#kept.add(compiled);
		this.#characters += compiled.characters;
		while (this.#kept.size > KEPT.stores || (this.#characters > KEPT.characters && this.#kept.size > 1)) {
			for (const oldest of this.#kept) {
				this.#kept.delete(oldest);
				if (oldest !== compiled && !oldest.putOut()) {
					this.#characters -= oldest.characters;
					break;
				}
				this.#kept.add(oldest);
			}
		}
	}

	#judge({ name, keyGlob, rule }: StoreValidator, field: string): Judge {
		const glob = keyGlob === "" ? undefined : parseKeyGlob(keyGlob, `${field}.key_glob`);
		switch (rule.case) {
			case "jsonSchema":
				return { name, glob, judge: this.#schemaJudge(rule.value, `${field}.json_schema`) };
			case "cel": {
				const compiled = this.#engines.rules!.compile(rule.value, `${field}.cel`);
				const judge = (entry: EntryToJudge) => {
					const message = compiled.problem(entry);
					return message === undefined ? undefined : { rule: "cel", message };
				};
				return { name, glob, judge };
			}
			case "function":
				return { name, glob, judge: this.#functionJudge(rule.value, `${field}.function`) };
			default:
				throw HubError.field(field, "must have a json_schema, a cel or a function");
		}
	}

	#schemaJudge(text: string, field: string): Judge["judge"] {
		try {
			const schema = this.#engines.schemas!.compile(text);
			return (entry) =>
				entry.isJson ? schema.validate(entry.value) : { rule: "json", message: "the value is no JSON" };
		} catch (error) {
			if (!(error instanceof SchemaProblem)) throw error;
			const place = error.pointer === "" ? "" : `${error.pointer.slice(0, MAX_TEXT)}: `;
			throw HubError.field(field, `${place}${error.message}`);
		}
	}

	#functionJudge(name: string, field: string): Judge["judge"] {
		const asked = this.#functions.get(name);
		if (asked === undefined) throw HubError.field(field, `"${name.slice(0, 128)}" is not registered with this hub`);
		return (entry) => {
			let problem: unknown;
			try {
				problem = asked(entry);
			} catch (error) {
				return { rule: "function", message: `the function failed: ${error instanceof Error ? error.message : error}` };
			}
			if (problem === undefined) return undefined;
			const { path, rule = "function", message } = Object(problem) as Partial<EntryProblem>;
			if (message === undefined) return { rule, message: "the function gave no answer at once" };
			return { path: String(path ?? ""), rule: String(rule), message: String(message) };
		};
	}
}

/** The validators of one revision of a store, compiled when they are asked. */
class CompiledValidators implements EntryValidators {
	/** Of their texts. */
	readonly characters: number;
	readonly #validators: readonly StoreValidator[];
	readonly #compiler: ValidatorCompiler;
	#judges: readonly Judge[] | undefined;
	#wasAsked = false;

	constructor(validators: readonly StoreValidator[], compiler: ValidatorCompiler) {
		this.#validators = validators;
		this.#compiler = compiler;
		this.characters = validators.reduce((sum, { rule }) => sum + (rule.value?.length ?? 0), 0);
	}

	/** Throws INVALID_FIELD or INVALID_FILTER for what does not compile. */
	compile(): readonly Judge[] {
		this.#judges = this.#compiler.judges(this.#validators);
		this.#compiler.keep(this);
		return this.#judges;
	}

	check(write: JudgedWrite): HubError | undefined {
		this.#wasAsked = true;
		let judges: readonly Judge[];
		try {
			judges = this.#judges ?? this.compile();
		} catch (error) {
			const message = error instanceof HubError ? error.message : "does not compile";
			return refusal(this.#validators[0]?.name ?? "", { rule: "validator", message });
		}
		const entry = new EntryToJudge(write);
		for (const { name, glob, judge } of judges) {
			if (glob?.matches(write.key) === false) continue;
			const problem = judge(entry);
			if (problem !== undefined) return refusal(name, problem);
		}
		return undefined;
	}

	/** Gives up what is compiled. False where it did; true where it was asked since it was last looked at, and is kept once more. */
	putOut(): boolean {
		if (this.#wasAsked) {
			this.#wasAsked = false;
			return true;
		}
		this.#judges = undefined;
		return false;
	}
}

function checkNames(validators: readonly StoreValidator[]): void {
	const names = new Set<string>();
	for (const [at, { name }] of validators.entries()) {
		const field = `config.validators[${at}].name`;
		if (!NAME.test(name)) throw HubError.field(field, "must be 1-128 of [a-z0-9._-], starting with a letter or digit");
		if (names.has(name)) throw HubError.field(field, `"${name}" is there twice`);
		names.add(name);
	}
}

function refusal(validator: string, { path = "", rule = "", message }: EntryProblem): HubError {
	const cut = (text: string) => (text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}...` : text);
	const description = cut(message);
	const place = path === "" ? "" : ` at ${cut(path)}`;
	return new HubError("VALIDATION_FAILED", `the validator ${validator} refuses the value${place}: ${description}`, {
		metadata: { validator, path: cut(path), rule: cut(rule) },
		precondition: { type: "VALIDATOR", subject: validator, description },
	});
}
