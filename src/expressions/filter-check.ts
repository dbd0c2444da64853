import type { parse } from "@bufbuild/cel";
import { CHARGE, WITHIN } from "./filter-budget.ts";

type Expr = ReturnType<typeof parse>["expr"];

/** What an expression may be made of. */
export const FILTER_LIMITS = Object.freeze({
	/** Characters of the text. */
	length: 2048,
	/** Brackets inside brackets, and operations inside operations. */
	depth: 48,
	/** Operations, names and literals together. */
	nodes: 512,
	/** Elements of one list or map that is written out. */
	elements: 128,
	/** Macros (`all`, `exists`, ...) inside each other. */
	macros: 2,
});

/** What a filter sees of an event, as `event.<name>`. */
export const EVENT_FIELDS: ReadonlySet<string> = new Set([
	"id",
	"type",
	"source",
	"subject",
	"attributes",
	"time",
	"is_replay",
	"data",
]);

const BOOLEAN_OPERATORS = ["_&&_", "_||_", "!_"];
const BOOLEAN_FUNCTIONS = [
	...["_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "@in", "@not_strictly_false"],
	...["contains", "startsWith", "endsWith", "bool"],
];
const OTHER_FUNCTIONS = [
	...["_+_", "_-_", "_*_", "_/_", "_%_", "-_", "size"],
	...["int", "uint", "double", "string", "bytes", "timestamp", "duration", "type"],
	...["getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"],
	...["getHours", "getMinutes", "getSeconds", "getMilliseconds"],
];
const UNKNOWN_RESULT = ["_?_:_", "_[_]", "dyn"];

const MAKES_BOOLEAN: ReadonlySet<string> = new Set([...BOOLEAN_OPERATORS, ...BOOLEAN_FUNCTIONS]);
const MAKES_OTHER: ReadonlySet<string> = new Set(OTHER_FUNCTIONS);
const KNOWN: ReadonlySet<string> = new Set([...MAKES_BOOLEAN, ...MAKES_OTHER, ...UNKNOWN_RESULT]);
const TYPES: ReadonlySet<string> = new Set([
	"bool",
	"int",
	"uint",
	"double",
	"string",
	"bytes",
	"list",
	"map",
	"null_type",
	"type",
]);

/** A reason to refuse an expression, before or after it is parsed. */
export class FilterProblem extends Error {
	override readonly name = "FilterProblem";
}

/**
 * Refuses text whose brackets nest deeper than a filter may, because the parser recurses on them. Brackets in string
 * literals count too; no sensible literal holds that many open ones.
 */
export function checkBrackets(text: string): void {
	let depth = 0;
	for (const character of text) {
		if (character === "(" || character === "[" || character === "{") depth++;
		else if ((character === ")" || character === "]" || character === "}") && depth > 0) depth--;
		if (depth > FILTER_LIMITS.depth) throw new FilterProblem(`nests deeper than ${FILTER_LIMITS.depth} levels`);
	}
}

/**
 * Walks a parsed expression once: refuses what is unknown, unbounded or can never be a boolean, and makes each
 * macro pay for its list (`CHARGE`) and end with the budget (`WITHIN`). Throws `FilterProblem`.
 */
export function checkFilter(root: Expr): void {
	new Check().expression(root, 1, 0, []);
	if (resultOf(root) === "other") throw new FilterProblem("does not give a bool");
}

class Check {
	#nodes = 0;

	/** Checks one expression and what is in it. `scope` holds the variables of the macros around it. */
	expression(expr: Expr | undefined, depth: number, macros: number, scope: readonly string[]): void {
		if (expr === undefined) throw new FilterProblem("is incomplete");
		if (++this.#nodes > FILTER_LIMITS.nodes) throw new FilterProblem(`has more than ${FILTER_LIMITS.nodes} operations`);
		if (depth > FILTER_LIMITS.depth) throw new FilterProblem(`nests deeper than ${FILTER_LIMITS.depth} levels`);
		const inside = (inner: Expr | undefined) => this.expression(inner, depth + 1, macros, scope);
		const kind = expr.exprKind;
		switch (kind.case) {
			case "constExpr":
				return;
			case "identExpr":
				checkName(kind.value.name, scope);
				return;
			case "selectExpr": {
				const { operand, field } = kind.value;
				if (isEvent(operand, scope) && !EVENT_FIELDS.has(field)) {
					throw new FilterProblem(`event has no field "${shown(field)}"; it has ${[...EVENT_FIELDS].join(", ")}`);
				}
				inside(operand);
				return;
			}
			case "callExpr": {
				const { target, function: name, args } = kind.value;
				checkFunction(name);
				if (target !== undefined) inside(target);
				for (const arg of args) inside(arg);
				if (BOOLEAN_OPERATORS.includes(name) && args.some((arg) => resultOf(arg) === "other")) {
					throw new FilterProblem(`${name.replaceAll("_", "")} is given something that is not a bool`);
				}
				return;
			}
			case "listExpr":
				checkElements(kind.value.elements.length);
				for (const element of kind.value.elements) inside(element);
				return;
			case "structExpr":
				if (kind.value.messageName !== "") throw new FilterProblem("may not make messages");
				checkElements(kind.value.entries.length);
				for (const entry of kind.value.entries) {
					if (entry.keyKind.case === "mapKey") inside(entry.keyKind.value);
					inside(entry.value);
				}
				return;
			case "comprehensionExpr": {
				if (macros >= FILTER_LIMITS.macros) {
					throw new FilterProblem(`nests more than ${FILTER_LIMITS.macros} of all, exists, exists_one, filter and map`);
				}
				const { iterVar, accuVar, iterRange, accuInit, loopCondition, loopStep, result } = kind.value;
				if (iterVar === "event") throw new FilterProblem('"event" may not name the element of a list');
				inside(iterRange);
				inside(accuInit);
				const before = this.#nodes;
				const inner = [...scope, iterVar, accuVar];
				for (const part of [loopCondition, loopStep]) this.expression(part, depth + 1, macros + 1, inner);
				this.expression(result, depth + 1, macros + 1, inner);
				kind.value.iterRange = call(CHARGE, iterRange!, integer(this.#nodes - before));
				kind.value.loopCondition = call(WITHIN, loopCondition!);
				return;
			}
			default:
				throw new FilterProblem("is incomplete");
		}
	}
}

function checkName(name: string, scope: readonly string[]): void {
	if (name === "event" || scope.includes(name) || TYPES.has(name)) return;
	throw new FilterProblem(`"${shown(name)}" is unknown; a filter sees event`);
}

function checkFunction(name: string): void {
	if (KNOWN.has(name)) return;
	if (name === "matches") {
		throw new FilterProblem("may not use matches(); use contains(), startsWith() or endsWith()");
	}
	throw new FilterProblem(`"${shown(name)}" is not a function that a filter has`);
}

function checkElements(count: number): void {
	if (count > FILTER_LIMITS.elements) {
		throw new FilterProblem(`writes out more than ${FILTER_LIMITS.elements} elements in one list or map`);
	}
}

function isEvent(expr: Expr | undefined, scope: readonly string[]): boolean {
	return expr?.exprKind.case === "identExpr" && expr.exprKind.value.name === "event" && !scope.includes("event");
}

/** Whether an expression gives a bool, surely something else, or what only an event can tell. */
function resultOf(expr: Expr | undefined): "bool" | "other" | "unknown" {
	const kind = expr?.exprKind;
	switch (kind?.case) {
		case "constExpr":
			return kind.value.constantKind.case === "boolValue" ? "bool" : "other";
		case "identExpr":
			return kind.value.name === "event" || TYPES.has(kind.value.name) ? "other" : "unknown";
		case "selectExpr":
			if (kind.value.testOnly) return "bool";
			if (!isEvent(kind.value.operand, [])) return "unknown";
			return kind.value.field === "data" ? "unknown" : kind.value.field === "is_replay" ? "bool" : "other";
		case "callExpr": {
			const { function: name, args } = kind.value;
			if (MAKES_BOOLEAN.has(name)) return "bool";
			if (MAKES_OTHER.has(name)) return "other";
			if (name !== "_?_:_") return "unknown";
			return resultOf(args[1]) === "other" && resultOf(args[2]) === "other" ? "other" : "unknown";
		}
		case "listExpr":
		case "structExpr":
			return "other";
		case "comprehensionExpr":
			return kind.value.accuInit?.exprKind.case === "listExpr" ? "other" : "unknown";
		default:
			return "unknown";
	}
}

function call(name: string, ...args: [Expr, ...Expr[]]): Expr {
	return {
		$typeName: "cel.expr.Expr",
		id: args[0].id,
		exprKind: { case: "callExpr", value: { $typeName: "cel.expr.Expr.Call", function: name, args } },
	};
}

function integer(value: number): Expr {
	return {
		$typeName: "cel.expr.Expr",
		id: 0n,
		exprKind: {
			case: "constExpr",
			value: { $typeName: "cel.expr.Constant", constantKind: { case: "int64Value", value: BigInt(value) } },
		},
	};
}

function shown(name: string): string {
	return name.length > 64 ? `${name.slice(0, 64)}...` : name;
}
