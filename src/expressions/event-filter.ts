import { ExpressionCompiler } from "./compile-expression.ts";
import type { EventView } from "./event-view.ts";
import type { Vocabulary } from "./expression-check.ts";

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

const FILTER: Vocabulary = Object.freeze({
	noun: "a filter",
	subject: "event",
	length: 2048,
	variables: new Map([
		[
			"event",
			{
				kind: "other",
				fields: new Map([
					["id", "other"],
					["type", "other"],
					["source", "other"],
					["subject", "other"],
					["attributes", "other"],
					["time", "other"],
					["is_replay", "bool"],
					["data", "unknown"],
				] as const),
			},
		],
	] as const),
});

/**
 * Compiles a CEL expression over `event`. Numbers in data are doubles; they compare with integer literals.
 *
 * Refuses with INVALID_FILTER, naming `field` and, for bad syntax, the position: what does not parse, what is too large,
 * names and functions that a filter does not have, and what can never be a bool. Loads the engine at the first call.
 */
export async function compileEventFilter(text: string, field: string): Promise<EventFilter> {
	const compiler = await ExpressionCompiler.load();
	const expression = compiler.compile(text, field, FILTER);
	return {
		text,
		matches(view, onError) {
			const result = expression.evaluate((engine) => view.bindings(engine));
			if (typeof result === "boolean") return result;
			onError?.(result instanceof Error ? result.message : "the filter does not give a bool");
			return false;
		},
	};
}
