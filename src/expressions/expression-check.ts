import type { parse } from "@bufbuild/cel";
import { CHARGE, WITHIN } from "./expression-budget.ts";

type Expr = ReturnType<typeof parse>["expr"];

/** What an expression may be made of. */
const EXPRESSION_LIMITS = Object.freeze({
	/** Brackets inside brackets, and operations inside operations. */
	depth: 48,
	/** Operations, names and literals together. */
	nodes: 512,
	/** Elements of one list or map that is written out. */
	elements: 128,
	/** Macros (`all`, `exists`, ...) inside each other. */
	macros: 2,
});

/** What a variable or field surely is, as far as an expression that must be a bool is concerned. */
type ResultKind = "bool" | "other" | "unknown";

/** What an expression of one kind may be about. */
export interface Vocabulary {
	/** What the expression is called in refusals, with its article. */
	readonly noun: string;
	/** What it is about. */
	readonly subject: string;
	/** Characters of its text. */
	readonly length: number;
	/** Its variables; a variable with fields has no others. */
	readonly variables: ReadonlyMap<string, Variable>;
}

export interface Variable {
	readonly kind: ResultKind;
	readonly fields?: ReadonlyMap<string, ResultKind>;
}

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
export class ExpressionProblem extends Error {
	override readonly name = "ExpressionProblem";
}

/**
 * Refuses text whose brackets nest deeper than an expression may, because the parser recurses on them. Brackets in string
 * literals count too; no sensible literal holds that many open ones.
 */
export function checkBrackets(text: string): void {
	let depth = 0;
	for (const character of text) {
		if (character === "(" || character === "[" || character === "{") depth++;
		else if ((character === ")" || character === "]" || character === "}") && depth > 0) depth--;
		if (depth > EXPRESSION_LIMITS.depth)
			throw new ExpressionProblem(`nests deeper than ${EXPRESSION_LIMITS.depth} levels`);
	}
}

/**
 * Walks a parsed expression once: refuses what is unknown, unbounded or can never be a boolean, and makes each
 * macro pay for its list (`CHARGE`) and end with the budget (`WITHIN`). Throws `ExpressionProblem`.
 */
export function checkExpression(root: Expr, vocabulary: Vocabulary): void {
	const check = new Check(vocabulary);
	check.expression(root, 1, 0, []);
	if (check.resultOf(root) === "other") throw new ExpressionProblem("does not give a bool");
}

class Check {
	readonly #vocabulary: Vocabulary;
	#nodes = 0;

	constructor(vocabulary: Vocabulary) {
		this.#vocabulary = vocabulary;
	}

	/** Checks one expression and what is in it. `scope` holds the variables of the macros around it. */
	expression(expr: Expr | undefined, depth: number, macros: number, scope: readonly string[]): void {
		if (expr === undefined) throw new ExpressionProblem("is incomplete");
		if (++this.#nodes > EXPRESSION_LIMITS.nodes)
			throw new ExpressionProblem(`has more than ${EXPRESSION_LIMITS.nodes} operations`);
		if (depth > EXPRESSION_LIMITS.depth)
			throw new ExpressionProblem(`nests deeper than ${EXPRESSION_LIMITS.depth} levels`);
		const inside = (inner: Expr | undefined) => this.expression(inner, depth + 1, macros, scope);
		const kind = expr.exprKind;
		switch (kind.case) {
			case "constExpr":
				return;
			case "identExpr":
				this.#checkName(kind.value.name, scope);
				return;
			case "selectExpr": {
				const { operand, field } = kind.value;
				const fields = this.#fieldsOf(operand, scope);
				if (fields?.has(field) === false) {
					const [name] = identifier(operand);
					throw new ExpressionProblem(
						`${name} has no field "${shown(field)}"; it has ${[...fields.keys()].join(", ")}`,
					);
				}
				inside(operand);
				return;
			}
			case "callExpr": {
				const { target, function: name, args } = kind.value;
				checkFunction(name, this.#vocabulary.noun);
				if (target !== undefined) inside(target);
				for (const arg of args) inside(arg);
				if (BOOLEAN_OPERATORS.includes(name) && args.some((arg) => this.resultOf(arg) === "other")) {
					throw new ExpressionProblem(`${name.replaceAll("_", "")} is given something that is not a bool`);
				}
				return;
			}
			case "listExpr":
				checkElements(kind.value.elements.length);
				for (const element of kind.value.elements) inside(element);
				return;
			case "structExpr":
				if (kind.value.messageName !== "") throw new ExpressionProblem("may not make messages");
				checkElements(kind.value.entries.length);
				for (const entry of kind.value.entries) {
					if (entry.keyKind.case === "mapKey") inside(entry.keyKind.value);
					inside(entry.value);
				}
				return;
			case "comprehensionExpr": {
				if (macros >= EXPRESSION_LIMITS.macros) {
					throw new ExpressionProblem(
						`nests more than ${EXPRESSION_LIMITS.macros} of all, exists, exists_one, filter and map`,
					);
				}
				const { iterVar, accuVar, iterRange, accuInit, loopCondition, loopStep, result } = kind.value;
				if (this.#vocabulary.variables.has(iterVar)) {
					throw new ExpressionProblem(`"${iterVar}" may not name the element of a list`);
				}
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
				throw new ExpressionProblem("is incomplete");
		}
	}

	#checkName(name: string, scope: readonly string[]): void {
		const { variables, noun } = this.#vocabulary;
		if (variables.has(name) || scope.includes(name) || TYPES.has(name)) return;
		const sees = [...variables.keys()].join(", ");
		throw new ExpressionProblem(`"${shown(name)}" is unknown; ${noun} sees ${sees}`);
	}

	#fieldsOf(expr: Expr | undefined, scope: readonly string[]): ReadonlyMap<string, ResultKind> | undefined {
		const [name] = identifier(expr);
		return name === undefined || scope.includes(name) ? undefined : this.#vocabulary.variables.get(name)?.fields;
	}

	/** Whether an expression gives a bool, surely something else, or what only its variables can tell. */
	resultOf(expr: Expr | undefined): ResultKind {
		const kind = expr?.exprKind;
		switch (kind?.case) {
			case "constExpr":
				return kind.value.constantKind.case === "boolValue" ? "bool" : "other";
			case "identExpr":
				if (TYPES.has(kind.value.name)) return "other";
				return this.#vocabulary.variables.get(kind.value.name)?.kind ?? "unknown";
			case "selectExpr":
				if (kind.value.testOnly) return "bool";
				return this.#fieldsOf(kind.value.operand, [])?.get(kind.value.field) ?? "unknown";
			case "callExpr": {
				const { function: name, args } = kind.value;
				if (MAKES_BOOLEAN.has(name)) return "bool";
				if (MAKES_OTHER.has(name)) return "other";
				if (name !== "_?_:_") return "unknown";
				return this.resultOf(args[1]) === "other" && this.resultOf(args[2]) === "other" ? "other" : "unknown";
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
}

function checkFunction(name: string, noun: string): void {
	if (KNOWN.has(name)) return;
	if (name === "matches") {
		throw new ExpressionProblem("may not use matches(); use contains(), startsWith() or endsWith()");
	}
	throw new ExpressionProblem(`"${shown(name)}" is not a function that ${noun} has`);
}

function checkElements(count: number): void {
	if (count > EXPRESSION_LIMITS.elements) {
		throw new ExpressionProblem(`writes out more than ${EXPRESSION_LIMITS.elements} elements in one list or map`);
	}
}

/** The name of a variable, where an expression is nothing else. */
function identifier(expr: Expr | undefined): string[] {
	return expr?.exprKind.case === "identExpr" ? [expr.exprKind.value.name] : [];
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
