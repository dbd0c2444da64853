import type { ErrorObject } from "ajv/dist/2020.js";
import { shortened } from "./schema-problem.ts";

/** What a value breaks. All of it is bounded, whatever the schema and the value hold. */
export interface SchemaViolation {
	/** Where in the value: a JSON Pointer, empty for the whole. At most 512 characters; a longer one ends with `...`. */
	readonly path: string;
	/** The keyword, and what it asks for where that is short: `maximum 10`, `required "name"`. At most 128 characters. */
	readonly rule: string;
	/** For people, at most 256 characters. */
	readonly message: string;
}

/** Of a value that would take too long to check. */
export const TOO_COSTLY: SchemaViolation = Object.freeze({
	path: "",
	rule: "cost",
	message: "the value costs too much to check against the schema",
});

const MAX_PATH = 509;
const MAX_RULE = 125;

type Constants = readonly { readonly keyword: "enum" | "const"; readonly values: readonly unknown[] }[];

/** What the library found, in our words. Of a failed alternative it is the alternative itself, not what is in it. */
export function describeViolation(errors: readonly ErrorObject[], constants: Constants): SchemaViolation {
	let error = errors.at(-1);
	// `then` or `else` failed, and the error before says with what.
	if (error?.keyword === "if" && errors.length > 1) error = errors.at(-2);
	if (error === undefined) return { path: "", rule: "schema", message: "the value is not valid" };
	const { rule, problem } = wording(error, constants);
	return {
		path: shortened(error.instancePath, MAX_PATH),
		rule: shortened(rule, MAX_RULE),
		message: shortened(problem, 253),
	};
}

function wording(error: ErrorObject, constants: Constants): { rule: string; problem: string } {
	const { keyword, params } = error;
	const named = (what: unknown) => `${keyword} ${JSON.stringify(shortened(String(what), 96))}`;
	switch (keyword) {
		case "hub:constants": {
			const rule = constants[params.constants]?.keyword ?? "enum";
			return { rule, problem: rule === "enum" ? "is none of the values allowed" : "is not the value allowed" };
		}
		case "hub:unique":
			return { rule: "uniqueItems", problem: "has an item twice" };
		case "type": {
			const types = [params.type].flat().join(" or ");
			return { rule: `type ${types}`, problem: `must be ${types}` };
		}
		case "required":
		case "dependentRequired":
			return {
				rule: named(params.missingProperty),
				problem: `has no ${JSON.stringify(shortened(String(params.missingProperty), 96))}`,
			};
		case "additionalProperties":
			return { rule: named(params.additionalProperty), problem: "has a member that is not allowed" };
		case "unevaluatedProperties":
			return { rule: named(params.unevaluatedProperty), problem: "has a member that is not allowed" };
		case "propertyNames":
			return { rule: named(params.propertyName), problem: "has a member whose name is not allowed" };
		case "pattern":
			return { rule: named(params.pattern), problem: "does not match the pattern" };
		case "format":
			return { rule: `format ${params.format}`, problem: `is no ${params.format}` };
		case "false schema":
			return { rule: "false", problem: "may not be there" };
		case "contains": {
			const { minContains, maxContains } = params;
			const bounds = maxContains === undefined ? `at least ${minContains}` : `${minContains} to ${maxContains}`;
			return { rule: `contains ${bounds}`, problem: `must have ${bounds} of the items that it is to contain` };
		}
		case "anyOf":
		case "oneOf":
		case "not":
			return { rule: keyword, problem: ALTERNATIVES[keyword] };
		default: {
			const limit = params.limit ?? params.multipleOf;
			const rule = limit === undefined ? keyword : `${keyword} ${limit}`;
			return { rule, problem: `breaks ${rule}` };
		}
	}
}

const ALTERNATIVES = {
	anyOf: "matches none of the schemas of which it must match one",
	oneOf: "does not match exactly one of the schemas",
	not: "matches the schema that it must not match",
} as const;
