import { beforeAll, describe, expect, it } from "vitest";
import { SchemaCompiler } from "../../src/schemas/json-schema.ts";
import { SchemaProblem } from "../../src/schemas/schema-problem.ts";

let compiler: SchemaCompiler;
beforeAll(async () => {
	compiler = await SchemaCompiler.load();
});

/** Path and rule of what the value breaks; undefined: nothing. */
function broken(schema: unknown, value: unknown): string | undefined {
	const text = typeof schema === "string" ? schema : JSON.stringify(schema);
	const violation = compiler.compile(text).validate(value);
	return violation && `${violation.path}: ${violation.rule}`;
}

function refusal(schema: unknown): string {
	try {
		compiler.compile(typeof schema === "string" ? schema : JSON.stringify(schema));
	} catch (error) {
		if (error instanceof SchemaProblem) return `${error.pointer}: ${error.message}`;
		throw error;
	}
	throw new Error("was accepted");
}

const person = {
	$schema: "https://json-schema.org/draft/2020-12/schema",
	$id: "https://example.com/person",
	title: "A person",
	type: "object",
	properties: {
		name: { type: "string", minLength: 1, maxLength: 3 },
		age: { type: "integer", minimum: 0, exclusiveMaximum: 150, multipleOf: 0.5 },
		mail: { type: "string", format: "email" },
		tags: { type: "array", items: { enum: ["a", "b", { c: 1, d: 2 }] }, uniqueItems: true, maxItems: 3 },
		friend: { $ref: "#" },
	},
	patternProperties: { "^x-": { type: "string" } },
	required: ["name"],
	additionalProperties: false,
	dependentRequired: { mail: ["age"] },
};

describe("a schema", () => {
	it.each<[unknown, string | undefined]>([
		[{ name: "ab", age: 3, tags: ["a", { d: 2, c: 1 }], friend: { name: "é😀x" } }, undefined],
		[[], ": type object"],
		[{}, ': required "name"'],
		[{ name: "" }, "/name: minLength 1"],
		[{ name: "abcd" }, "/name: maxLength 3"],
		[{ name: "a", age: -1 }, "/age: minimum 0"],
		[{ name: "a", age: 150 }, "/age: exclusiveMaximum 150"],
		[{ name: "a", age: 1.5 }, "/age: type integer"],
		[{ name: "a", age: 1, mail: "x" }, "/mail: format email"],
		[{ name: "a", mail: "x@y.org" }, ': dependentRequired "age"'],
		[{ name: "a", tags: ["c"] }, "/tags/0: enum"],
		[{ name: "a", tags: ["a", "a"] }, "/tags: uniqueItems"],
		[{ name: "a", friend: { name: "b", friend: { nam: 1 } } }, '/friend/friend: required "name"'],
		[{ name: "a", "x-y/z~": 1 }, "/x-y~1z~0: type string"],
		[{ name: "a", other: 1 }, ': additionalProperties "other"'],
	])("is kept or broken: %#", (value, expected) => {
		expect(broken(person, value)).toBe(expected);
	});

	it.each<[unknown, unknown, string | undefined]>([
		[true, 1, undefined],
		[false, 1, ": false"],
		[{ const: { a: [1, { b: null }] } }, { a: [1, { b: null }] }, undefined],
		[{ const: 0 }, false, ": const"],
		[{ const: 1, enum: [1, 2] }, 2, ": const"],
		[{ const: 1, enum: [1, 2], allOf: [true] }, 2, ": const"],
		[{ anyOf: [{ type: "string" }, { minimum: 3 }] }, 2, ": anyOf"],
		[{ oneOf: [{ minimum: 1 }, { minimum: 2 }] }, 3, ": oneOf"],
		[{ allOf: [{ minimum: 1 }, { maximum: 2 }] }, 3, ": maximum 2"],
		[{ not: { type: "null" } }, null, ": not"],
		['{"if":{"type":"string"},"else":{"minimum":1},"then":{"minLength":2}}', "a", ": minLength 2"],
		[{ prefixItems: [true, { type: "string" }], items: false }, [1, "a", 2], ": items 2"],
		[{ contains: { type: "string" }, minContains: 2 }, ["a", 1], ": contains at least 2"],
		[{ contains: { type: "string" }, maxContains: 1 }, ["a", "b"], ": contains 1 to 1"],
		[{ propertyNames: { maxLength: 1 } }, { ab: 1 }, ': propertyNames "ab"'],
		[{ minProperties: 1 }, {}, ": minProperties 1"],
		[{ dependentSchemas: { a: { required: ["b"] } } }, { a: 1 }, ': required "b"'],
		[{ multipleOf: 0.1 }, 0.3, undefined],
		[{ type: ["string", "null"] }, 1, ": type string or null"],
		[{ type: "integer" }, 2, undefined],
		[{ pattern: "^\\u0061\\d+$" }, "a1", undefined],
		[{ pattern: "b" }, "abc", undefined],
		[{ pattern: "^b" }, "abc", ': pattern "^b"'],
		[{ $defs: { a: { type: "string" } }, $ref: "#/$defs/a" }, 1, ": type string"],
		[{ definitions: { "a/b %": { type: "string" } }, $ref: "#/definitions/a~1b%20%25" }, 1, ": type string"],
		[{ $defs: { a: { $anchor: "A", type: "string" } }, items: { $ref: "#A" } }, [1], "/0: type string"],
		[{ $defs: { a: { $dynamicAnchor: "A", type: "string" } }, items: { $dynamicRef: "#A" } }, [1], "/0: type string"],
		[{ $defs: { a: false }, $ref: "#/$defs/a" }, 1, ": false"],
		[
			{ $ref: "#/$defs/a", $dynamicRef: "#/$defs/b", $defs: { a: { minimum: 1 }, b: { maximum: 1 } } },
			2,
			": maximum 1",
		],
		[{ properties: { a: { minimum: 1 } }, items: { $ref: "#/properties/a" } }, [0], "/0: minimum 1"],
		[
			{ allOf: [{ properties: { a: true } }], unevaluatedProperties: false },
			{ a: 1, b: 1 },
			': unevaluatedProperties "b"',
		],
		[
			{ anyOf: [{ required: ["a"], properties: { a: true } }, true], unevaluatedProperties: false },
			{ a: 1 },
			undefined,
		],
		[
			{ $ref: "#/$defs/a", unevaluatedProperties: false, $defs: { a: { properties: { a: true } } } },
			{ a: 1 },
			undefined,
		],
		[{ prefixItems: [true], unevaluatedItems: { type: "string" } }, [1, 2], "/1: type string"],
	])("means what draft 2020-12 says: %#", (schema, value, expected) => {
		expect(broken(schema, value)).toBe(expected);
	});

	it.each([
		["date", "2024-02-29", "2023-02-29"],
		["date", "2000-02-29", "1900-02-29"],
		["time", "23:59:59.5+01:00", "24:00:00Z"],
		["date-time", "2024-01-01T00:00:00Z", "2024-01-01 00:00:00Z"],
		["email", "a.b+c@example.org", "a..b@example.org"],
		["hostname", "a-b.example", "-a.example"],
		["ipv4", "127.0.0.1", "127.0.0.01"],
		["ipv6", "::1", "1::2::3"],
		["ipv6", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7"],
		["ipv6", "::ffff:1.2.3.4", "1:2:3:4:5:6:7:1.2.3.4"],
		["uri", "https://example.org/a?b#c", "/a/b"],
		["uri", "urn:x:y%20z", "http://a b"],
		["uuid", "01234567-89ab-cdef-0123-456789abcdef", "0123456789abcdef0123456789abcdef"],
	])("checks the format %s", (format, good, bad) => {
		expect(broken({ format }, good)).toBeUndefined();
		expect(broken({ format }, bad)).toBe(`: format ${format}`);
		expect(broken({ format }, 1)).toBeUndefined();
	});

	it("knows no member that an object has of itself", () => {
		for (const name of ["constructor", "toString", "hasOwnProperty", "__proto__", "valueOf"]) {
			const own = JSON.parse(`{${JSON.stringify(name)}:{"a":1}}`);
			expect(broken({ required: [name] }, {})).toBe(`: required "${name}"`);
			expect(broken({ required: [name] }, own)).toBeUndefined();
			expect(broken({ additionalProperties: false, properties: { a: true } }, own)).toBe(
				`: additionalProperties "${name}"`,
			);
			expect(broken({ patternProperties: { [`^${name}$`]: { type: "string" } } }, own)).toBe(`/${name}: type string`);
			expect(broken(`{"const":${JSON.stringify(own)}}`, own)).toBeUndefined();
			expect(broken({ uniqueItems: true }, [own, own])).toBe(": uniqueItems");
			expect(broken({ anyOf: [{ properties: { a: true } }], unevaluatedProperties: false }, own)).toMatch(/^: uneval/);
			if (name !== "__proto__") expect(broken({ properties: { [name]: { type: "string" } } }, {})).toBeUndefined();
		}
	});
});

describe("a schema is refused", () => {
	it.each<[unknown, string]>([
		["", ": is empty"],
		["{", "is missing at the end"],
		["nonsense", ": the schema is no JSON"],
		["[]", ": a schema is an object, true or false"],
		[{ properties: { a: 1 } }, "/properties/a: a schema is an object"],
		[{ requried: ["a"] }, '/requried: "requried" is not a keyword'],
		[{ properties: [] }, "/properties: must have a schema for each name"],
		[{ required: ["a", "a"] }, "/required: must be a list of different names"],
		[{ type: "text" }, '/type: "text" must be null, boolean'],
		[{ type: [] }, "/type: must be null, boolean"],
		[{ minimum: "1" }, '/minimum: "1" must be a number'],
		['{"maximum":1e999}', "/maximum: must be a number"],
		[{ maxLength: -1 }, "/maxLength: must be a whole number"],
		[{ multipleOf: 0 }, "/multipleOf: must be a number above 0"],
		[{ uniqueItems: 1 }, "/uniqueItems: must be true or false"],
		[{ enum: 1 }, "/enum: must be a list"],
		[{ anyOf: [] }, "/anyOf: must be a list of schemas"],
		[{ format: "ipv9" }, '/format: "ipv9" is not a known format; those are date'],
		[{ items: [true] }, "/items: must be one schema"],
		[{ additionalItems: true }, "/additionalItems: is of an older draft; write items"],
		[{ dependencies: {} }, "/dependencies: is of an older draft"],
		[{ $schema: "http://json-schema.org/draft-07/schema#" }, "/$schema: must be https://json-schema.org/draft/2020-12"],
		[{ items: { $id: "x" } }, "/items/$id: $id may stand at the root only"],
		[{ $ref: "https://example.com/schema" }, "leads to another document"],
		[{ $ref: "other.json#/a" }, "leads to another document"],
		[{ $ref: "#/$defs/a" }, '"#/$defs/a" leads to no schema'],
		[{ $ref: "#/properties", properties: {} }, "leads to no schema"],
		[{ $ref: "#%zz" }, "leads to no schema"],
		[{ $defs: { a: { $anchor: "x" }, b: { $anchor: "x" } } }, "/$defs/b/$anchor: the anchor is there twice"],
		[{ $anchor: "1 2" }, "/$anchor: is no name"],
		[{ pattern: "(" }, "/pattern: the pattern does not compile"],
		[{ patternProperties: { "a(?=b)": true } }, "/patternProperties/a(?=b): the pattern does not compile"],
		[{ pattern: "(a)\\1" }, "/pattern: the pattern does not compile"],
		['{"properties":{"__proto__":true}}', '/properties: may not name "__proto__"'],
	])("%#", (schema, problem) => {
		expect(refusal(schema)).toContain(problem);
	});

	it("but not for what is only said about it", () => {
		const schema = {
			description: 1,
			default: {},
			examples: [{ type: "nonsense" }],
			"x-own": { $ref: "nowhere" },
			$comment: "",
		};
		expect(broken(schema, 1)).toBeUndefined();
	});
});
