import type { CelEnv, CelResult } from "@bufbuild/cel";
import { HubError } from "../hub-error.ts";
import type { EventView } from "./event-view.ts";
import { boundedFunctions, type CelEngine, FilterBudget } from "./filter-budget.ts";
import { checkBrackets, checkFilter, FILTER_LIMITS, FilterProblem } from "./filter-check.ts";

/** A compiled filter. It keeps no state between events and may be shared. */
export interface EventFilter {
	/** The expression as it was given. */
	readonly text: string;
	/**
	 * Whether the expression is true of the event. An evaluation that fails (a field that is not there, operands that do
	 * not fit, data that is not JSON, too much work) is no match; `onError` is then told why. Never throws of itself; ends
	 * after about 20 ms at worst, whatever the expression and the event.
	 */
	matches(view: EventView, onError?: (problem: string) => void): boolean;
}

interface Runtime {
	readonly engine: CelEngine;
	readonly environment: CelEnv;
	readonly budget: FilterBudget;
}

let runtime: Promise<Runtime> | undefined;

async function load(): Promise<Runtime> {
	const engine = await import("@bufbuild/cel");
	const budget = new FilterBudget();
	return { engine, environment: engine.celEnv({ funcs: boundedFunctions(engine, budget) }), budget };
}

/**
 * Compiles a CEL expression over `event`. Numbers in data are doubles; they compare with integer literals.
 *
 * Refuses with INVALID_FILTER, naming `field` and, for bad syntax, the position: what does not parse, what is larger than
 * `FILTER_LIMITS`, names and functions that a filter does not have, and what can never be a bool. Loads the engine at
 * the first call.
 */
export async function compileEventFilter(text: string, field: string): Promise<EventFilter> {
	try {
		if (text.trim() === "") throw new FilterProblem("is empty");
		if (text.length > FILTER_LIMITS.length) {
			throw new FilterProblem(`has ${text.length} characters; at most ${FILTER_LIMITS.length} are allowed`);
		}
		checkBrackets(text);
	} catch (error) {
		throw refusal(field, error);
	}
	runtime ??= load();
	const { engine, environment, budget } = await runtime;
	let program: (bindings: never) => CelResult;
	try {
		const parsed = engine.parse(text);
		checkFilter(parsed.expr);
		program = engine.plan(environment, parsed);
	} catch (error) {
		throw refusal(field, error);
	}
	return {
		text,
		matches(view, onError) {
			const result = evaluate(() => program(view.bindings(engine) as never), budget);
			if (typeof result === "boolean") return result;
			onError?.(result instanceof Error ? result.message : "the filter does not give a bool");
			return false;
		},
	};
}

/** Failed evaluations are ordinary, and a stack trace for each would cost more than the evaluation. */
function evaluate(run: () => CelResult, budget: FilterBudget): unknown {
	const frames = Error.stackTraceLimit;
	Error.stackTraceLimit = 0;
	budget.reset();
	try {
		return run();
	} catch (error) {
		return error;
	} finally {
		Error.stackTraceLimit = frames;
	}
}

function refusal(field: string, error: unknown): HubError {
	if (error instanceof FilterProblem) return HubError.field(field, error.message, "INVALID_FILTER");
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
