import { SCHEMA_FORMATS } from "./schema-formats.ts";
import { shortened } from "./schema-problem.ts";

/** What a keyword's value must be, and how the schema around it is then rewritten. */
export type KeywordKind =
	/** One schema: for the same value, for each item, or for each member. */
	| "in-place"
	| "each-item"
	| "each-member"
	/** A list of schemas: for the same value, or for the first items. */
	| "all-in-place"
	| "first-items"
	/** Schemas by name: of members, by the pattern of their names, for the same value, or only to be referred to. */
	| "members"
	| "patterns"
	| "dependent"
	| "definitions"
	| "checked"
	| "constants"
	| "pattern"
	| "reference"
	| "anchor"
	| "annotation";

const KINDS: Readonly<Record<Exclude<KeywordKind, "checked">, readonly string[]>> = {
	"in-place": ["not", "if", "then", "else"],
	"each-item": ["items", "contains", "unevaluatedItems"],
	"each-member": ["additionalProperties", "propertyNames", "unevaluatedProperties"],
	"all-in-place": ["allOf", "anyOf", "oneOf"],
	"first-items": ["prefixItems"],
	members: ["properties"],
	patterns: ["patternProperties"],
	dependent: ["dependentSchemas"],
	definitions: ["$defs", "definitions"],
	constants: ["enum", "const"],
	pattern: ["pattern"],
	reference: ["$ref", "$dynamicRef"],
	anchor: ["$anchor", "$dynamicAnchor"],
	annotation: [
		...["$comment", "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"],
		...["contentEncoding", "contentMediaType", "contentSchema", "$vocabulary"],
	],
};

const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
const isNames = (value: unknown): boolean =>
	Array.isArray(value) && value.every((name) => typeof name === "string") && new Set(value).size === value.length;
const isType = (value: unknown): boolean =>
	["null", "boolean", "object", "array", "number", "integer", "string"].includes(value as string);

const count = [isCount, "must be a whole number of at least 0"] as const;
const number = [Number.isFinite, "must be a number"] as const;

/** Keywords whose values are only looked at. */
const CHECKED: Readonly<Record<string, readonly [is: (value: unknown) => boolean, problem: string]>> = {
	minLength: count,
	maxLength: count,
	minItems: count,
	maxItems: count,
	minContains: count,
	maxContains: count,
	minProperties: count,
	maxProperties: count,
	minimum: number,
	maximum: number,
	exclusiveMinimum: number,
	exclusiveMaximum: number,
	multipleOf: [(value) => Number.isFinite(value) && (value as number) > 0, "must be a number above 0"],
	uniqueItems: [(value) => typeof value === "boolean", "must be true or false"],
	required: [isNames, "must be a list of different names"],
	dependentRequired: [
		(value) => typeof value === "object" && value !== null && Object.values(value).every(isNames),
		"must have a list of different names for each name",
	],
	type: [
		(value) =>
			isType(value) || (isNames(value) && (value as unknown[]).length > 0 && (value as unknown[]).every(isType)),
		"must be null, boolean, object, array, number, integer or string, or a list of them",
	],
	format: [
		(value) => SCHEMA_FORMATS.has(value as string),
		`is not a known format; those are ${[...SCHEMA_FORMATS.keys()].join(", ")}`,
	],
};

/** Of older drafts, with what to write instead. */
const OLD: ReadonlyMap<string, string> = new Map([
	["additionalItems", "items beside prefixItems"],
	["dependencies", "dependentRequired and dependentSchemas"],
	["$recursiveRef", "$dynamicRef"],
	["$recursiveAnchor", "$dynamicAnchor"],
	["id", "$id"],
]);

const BY_NAME: ReadonlyMap<string, KeywordKind> = new Map<string, KeywordKind>([
	...Object.entries(KINDS).flatMap(([kind, names]) => names.map((name) => [name, kind as KeywordKind] as const)),
	...Object.keys(CHECKED).map((name) => [name, "checked"] as const),
]);

/** What `name` is; or, as a text, why a schema may not have it. `x-` begins the author's own annotations. */
export function keywordKind(name: string): KeywordKind | { readonly problem: string } {
	if (name.startsWith("x-")) return "annotation";
	const kind = BY_NAME.get(name);
	if (kind !== undefined) return kind;
	const instead = OLD.get(name);
	if (instead !== undefined) return { problem: `is of an older draft; write ${instead}` };
	return { problem: `"${shortened(name)}" is not a keyword of draft 2020-12; begin your own with x-` };
}

/** What is wrong with the value of a keyword that is only looked at. */
export function keywordProblem(name: string, value: unknown): string | undefined {
	const rule = CHECKED[name];
	return rule === undefined || rule[0](value) ? undefined : rule[1];
}
