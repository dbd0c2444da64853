import { beforeAll, describe, expect, it } from "vitest";
import { SchemaCompiler } from "../../src/schemas/json-schema.ts";
import { SchemaProblem } from "../../src/schemas/schema-problem.ts";

/** Many times what is promised: the machine is shared, and what is to be found takes minutes or for ever. */
const PATIENCE_MS = 2000;
let compiler: SchemaCompiler;
beforeAll(async () => {
	compiler = await SchemaCompiler.load();
});

function timely<T>(run: () => T): T {
	const began = performance.now();
	const result = run();
	expect(performance.now() - began).toBeLessThan(PATIENCE_MS);
	return result;
}

function rule(schema: unknown, value: unknown): string | undefined {
	const text = typeof schema === "string" ? schema : JSON.stringify(schema);
	const compiled = timely(() => compiler.compile(text));
	const violation = timely(() => compiled.validate(value));
	// Once more: what one value has spent, the next one has again.
	expect(compiled.validate(value)).toEqual(violation);
	if (violation) expect(JSON.stringify(violation).length).toBeLessThan(2000);
	return violation?.rule;
}

function refused(schema: unknown): string {
	try {
		timely(() => compiler.compile(typeof schema === "string" ? schema : JSON.stringify(schema)));
	} catch (error) {
		if (error instanceof SchemaProblem) return error.message;
		throw error;
	}
	throw new Error("was accepted");
}

const numbers = (count: number, make: (at: number) => unknown) => Array.from({ length: count }, (_, at) => make(at));
const named = (count: number, make: (at: number) => unknown) =>
	Object.fromEntries(numbers(count, (at) => [`n${at}`, make(at)]) as [string, unknown][]);
/** References that double at each level, so that a value is looked at 2^40 times. */
const doubling = (keyword: string, leaf: unknown) => ({
	$defs: { ...named(40, (at) => ({ [keyword]: numbers(2, () => ({ $ref: `#/$defs/n${at + 1}` })) })), n40: leaf },
	$ref: "#/$defs/n0",
});

describe("a schema that is made to cost much", () => {
	it.each<[string, unknown, unknown]>([
		["doubles under allOf", doubling("allOf", true), 1],
		["doubles under anyOf", doubling("anyOf", { type: "string" }), 1],
		["doubles under oneOf", doubling("oneOf", { type: "string" }), 1],
		["refers to itself", { $ref: "#" }, 1],
		["refers to itself twice", { anyOf: [{ $ref: "#" }, { $ref: "#" }] }, 1],
		["refers to itself dynamically", { $dynamicAnchor: "a", $dynamicRef: "#a" }, 1],
		[
			"goes round in a circle",
			{ $defs: { a: { $ref: "#/$defs/b" }, b: { not: { $ref: "#/$defs/a" } } }, $ref: "#/$defs/a" },
			1,
		],
		[
			"asks of every item",
			{ allOf: numbers(240, () => ({ items: { type: "integer" } })) },
			numbers(100_000, (at) => at),
		],
		["asks for what is nowhere", { contains: { type: "string" } }, numbers(200_000, (at) => at)],
		["measures a long text", { allOf: numbers(499, () => ({ maxLength: 2_000_000 })) }, "é".repeat(500_000)],
		["compares large values", { allOf: numbers(490, (at) => ({ const: at })) }, numbers(100_000, (at) => `${at}`)],
		["has a slow pattern", { pattern: "^(a|b)*a(a|b){200}$" }, "ab".repeat(20_000)],
		[
			"has slow patterns for names",
			{
				patternProperties: Object.fromEntries(numbers(100, (at) => [`(a|b)*${at}`, true]) as [string, unknown][]),
				additionalProperties: false,
			},
			named(50_000, () => 1),
		],
	])("refuses the value: %s", (_, schema, value) => {
		const found = rule(schema, value);
		expect(["cost", "const", "contains at least 1"]).toContain(found);
		if (!("contains" in (schema as object)) && !JSON.stringify(schema).includes("const")) expect(found).toBe("cost");
	});

	it("may be as large as it is allowed to be", () => {
		expect(
			rule(
				{ properties: named(490, () => ({ type: "string", minLength: 1 })) },
				named(490, () => "a"),
			),
		).toBeUndefined();
		expect(rule({ oneOf: numbers(490, (at) => ({ const: at })) }, 3)).toBeUndefined();
		expect(rule({ anyOf: numbers(240, (at) => ({ required: [`n${at}`], properties: { a: true } })) }, {})).toBe(
			"anyOf",
		);
		expect(rule({ enum: numbers(8000, (at) => `v${at}`) }, "v7999")).toBeUndefined();
		let nested: unknown = { type: "string" };
		for (let level = 0; level < 20; level++) nested = { properties: { a: nested }, unevaluatedProperties: false };
		expect(rule(nested, {})).toBeUndefined();
	});

	it.each<[unknown, string]>([
		[`{"title":"${"x".repeat(64 * 1024)}"}`, "more than 65536 bytes"],
		[`${'{"not":'.repeat(100)}true${"}".repeat(100)}`, "nests deeper than 48 levels"],
		[`${'{"not":'.repeat(5000)}`, "nests deeper than 48 levels"],
		[{ anyOf: numbers(500, () => true) }, "more than 500 schemas"],
		[{ required: numbers(2001, (at) => `n${at}`) }, "more than 2000 names"],
		[{ pattern: "a".repeat(1025) }, "more than 1024 characters"],
		[{ pattern: "((a{30}){30}){30}" }, "does not compile"],
		[{ pattern: "(a{1000}){0,1}(b{900})" }, "too large"],
		[{ pattern: `${"(".repeat(500)}a${")".repeat(500)}` }, "too large"],
		[{ anyOf: numbers(129, (at) => ({ pattern: `a${at}` })) }, "more than 128 patterns"],
	])("is refused: %#", (schema, problem) => {
		expect(refused(schema)).toContain(problem);
	});
});

describe("a value that is made to cost much", () => {
	it("may be large where the schema asks little", () => {
		expect(
			rule(
				{ type: "array", items: { type: "integer" } },
				numbers(300_000, (at) => at),
			),
		).toBeUndefined();
		expect(
			rule(
				{ uniqueItems: true },
				numbers(100_000, (at) => at),
			),
		).toBeUndefined();
		expect(
			rule(
				{ uniqueItems: true },
				numbers(10_000, (at) => ({ at, l: [at] })),
			),
		).toBeUndefined();
		expect(rule({ pattern: "^[a-z]+$" }, "a".repeat(150_000))).toBeUndefined();
		expect(rule({ uniqueItems: true }, [...numbers(100_000, () => "x".repeat(100))])).toBe("uniqueItems");
	});

	it("has bounded words said about it", () => {
		const name = "n".repeat(1_000_000);
		const schema = { properties: { a: true }, additionalProperties: { additionalProperties: false } };
		const violation = compiler.compile(JSON.stringify(schema)).validate({ [name]: { [name]: 1 } });
		expect(violation?.path.length).toBe(512);
		expect(violation?.rule.length).toBeLessThanOrEqual(128);
		expect(violation?.message.length).toBeLessThanOrEqual(256);
	});
});

describe("a schema that is made to run code", () => {
	const payloads = [
		'"];globalThis.broken=1;["',
		"'+(globalThis.broken=1)+'",
		["`$", "{globalThis.broken=1}`"].join(""),
		"*/globalThis.broken=1;/*",
		"\u2028globalThis.broken=1",
		'\\";globalThis.broken=1;//',
	];

	it.each(payloads)("does not: %#", (text) => {
		const literal = text.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
		const schemas = [
			{ properties: { [text]: { type: "string", title: text } }, required: [text], additionalProperties: false },
			{ const: text, description: text, $comment: text, "x-y": text },
			{ pattern: literal, enum: [text] },
			{
				patternProperties: { [literal]: { minLength: 1 } },
				propertyNames: { const: text },
				unevaluatedProperties: false,
			},
			{ dependentRequired: { [text]: [text] }, dependentSchemas: { [text]: { required: [text] } } },
			{
				$id: text,
				$defs: { [text]: { type: "string" } },
				$ref: `#/$defs/${encodeURIComponent(text.replaceAll("~", "~0").replaceAll("/", "~1"))}`,
			},
		];
		for (const schema of schemas) {
			const compiled = compiler.compile(JSON.stringify(schema));
			for (const value of [text, { [text]: text }, { [text]: 1 }, {}]) compiled.validate(value);
		}
		expect("broken" in globalThis).toBe(false);
		expect(
			compiler.compile(JSON.stringify({ $ref: "#/$defs/a", $defs: { a: { const: text } } })).validate(text),
		).toBeUndefined();
	});

	it("does not reach into prototypes", () => {
		for (const keyword of ["$defs", "definitions", "default", "const", "x-y"]) {
			const text = `{${JSON.stringify(keyword)}:{"__proto__":{"type":"string","polluted":1},"constructor":{"prototype":{}}}}`;
			try {
				compiler.compile(text).validate(JSON.parse('{"__proto__":{"polluted":1}}'));
			} catch (error) {
				expect(error).toBeInstanceOf(SchemaProblem);
			}
			expect(({} as { polluted?: number }).polluted).toBeUndefined();
		}
		expect(refused('{"__proto__":{"type":"string"}}')).toContain("not a keyword");
		expect(refused('{"constructor":{"type":"string"}}')).toContain("not a keyword");
		expect(refused('{"hub:cost":{"base":-1000000000}}')).toContain("not a keyword");
	});
});
