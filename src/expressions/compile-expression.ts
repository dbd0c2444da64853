import type { CelEnv, CelResult } from "@bufbuild/cel";
import { HubError } from "../hub-error.ts";
import { boundedFunctions, type CelEngine, ExpressionBudget } from "./expression-budget.ts";
import { checkBrackets, checkExpression, ExpressionProblem, type Vocabulary } from "./expression-check.ts";

/** A compiled expression. It keeps no state between evaluations and may be shared. */
export interface Expression {
	/** As it was given. */
	readonly text: string;
	/**
	 * Evaluates it. Gives what it gives, or the `Error` why it cannot be evaluated (a member that is not there, operands that do
	 * not fit, too much work). Never throws of itself; ends after about 20 ms at worst, whatever the expression and the variables.
	 */
	evaluate(variables: (engine: CelEngine) => unknown): unknown;
}

/** Compiles expressions. Only loading the engine takes turns of the event loop. */
export class ExpressionCompiler {
	readonly #engine: CelEngine;
	readonly #environment: CelEnv;
	readonly #budget = new ExpressionBudget();
	static #loaded: Promise<ExpressionCompiler> | undefined;

	private constructor(engine: CelEngine) {
		this.#engine = engine;
		this.#environment = engine.celEnv({ funcs: boundedFunctions(engine, this.#budget) });
	}

	/** Loads the engine at the first call: it costs a start about 100 ms. */
	static load(): Promise<ExpressionCompiler> {
		ExpressionCompiler.#loaded ??= import("@bufbuild/cel").then((engine) => new ExpressionCompiler(engine));
		return ExpressionCompiler.#loaded;
	}

	/**
	 * Refuses with INVALID_FILTER, naming `field` and, for bad syntax, the position: what does not parse, what is too large,
	 * names and functions that the vocabulary does not have, and what can never be a bool.
	 */
	compile(text: string, field: string, vocabulary: Vocabulary): Expression {
		const program = this.#program(text, field, vocabulary);
		const tooCostly = `the ${vocabulary.noun.replace(/^an? /, "")} costs too much on this ${vocabulary.subject}`;
		return {
			text,
			evaluate: (variables) => {
				// Failed evaluations are ordinary, and a stack trace for each would cost more than the evaluation.
				const frames = Error.stackTraceLimit;
				Error.stackTraceLimit = 0;
				this.#budget.reset(tooCostly);
				try {
					return program(variables(this.#engine) as never);
				} catch (error) {
					return error instanceof Error ? error : new Error(String(error));
				} finally {
					Error.stackTraceLimit = frames;
				}
			},
		};
	}

	#program(text: string, field: string, vocabulary: Vocabulary): (variables: never) => CelResult {
		try {
			checkText(text, vocabulary);
			const parsed = this.#engine.parse(text);
			checkExpression(parsed.expr, vocabulary);
			return this.#engine.plan(this.#environment, parsed);
		} catch (error) {
			throw refusal(field, error);
		}
	}
}

/** Refuses what needs no engine to be refused, with `ExpressionProblem`. */
function checkText(text: string, { length }: Vocabulary): void {
	if (text.trim() === "") throw new ExpressionProblem("is empty");
	if (text.length > length) {
		throw new ExpressionProblem(`has ${text.length} characters; at most ${length} are allowed`);
	}
	checkBrackets(text);
}

function refusal(field: string, error: unknown): HubError {
	if (error instanceof ExpressionProblem) return HubError.field(field, error.message, "INVALID_FILTER");
	if (error instanceof RangeError) return HubError.field(field, "nests too deeply", "INVALID_FILTER");
	const { location, found } = error as { location?: { start?: { line: number; column: number } }; found?: unknown };
	if (location?.start === undefined) {
		const problem = error instanceof Error ? error.message : String(error);
		return HubError.field(field, `does not compile: ${problem.slice(0, 200)}`, "INVALID_FILTER");
	}
	const what = typeof found === "string" && found !== "" ? `unexpected ${JSON.stringify(found)}` : "unexpected end";
	const { line, column } = location.start;
	return HubError.field(field, `line ${line}, column ${column}: ${what}`, "INVALID_FILTER");
}
