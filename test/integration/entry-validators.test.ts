import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { PayloadSchema } from "#gen/qirvo/hub/v1/payload_pb.js";
import { StoreConfigSchema, type StoreValidatorSchema } from "#gen/qirvo/hub/v1/stores_pb.js";
import { HubError } from "../../src/hub-error.ts";
import type { EntryFunction } from "../../src/stores/validator-compiler.ts";
import { ValidatorCompiler } from "../../src/stores/validator-compiler.ts";

type Validator = MessageInitShape<typeof StoreValidatorSchema>;

const validators = (list: readonly Validator[]) => create(StoreConfigSchema, { validators: [...list] }).validators;
const cel = (value: string, more: Validator = {}): Validator => ({
	name: "rule",
	...more,
	rule: { case: "cel", value },
});
const schema = (value: unknown, more: Validator = {}): Validator => ({
	name: "schema",
	...more,
	rule: { case: "jsonSchema", value: typeof value === "string" ? value : JSON.stringify(value) },
});

function payload(value: unknown): Uint8Array {
	const body =
		value instanceof Uint8Array
			? ({ case: "binary", value } as const)
			: ({ case: "json", value: typeof value === "string" ? value : JSON.stringify(value) } as const);
	return toBinary(PayloadSchema, create(PayloadSchema, { body, contentType: "x/y" }));
}

const write = (value: unknown, more: { key?: string; old?: unknown; writer?: string } = {}) => ({
	store: "s",
	key: more.key ?? "k",
	value: payload(value),
	oldValue: more.old === undefined ? undefined : payload(more.old),
	writer: more.writer ?? "w",
});

async function verdict(list: readonly Validator[], ...args: Parameters<typeof write>): Promise<unknown> {
	const compiled = await new ValidatorCompiler().compile(validators(list));
	const error = compiled.check(write(...args));
	if (error === undefined) return undefined;
	expect(error.reason).toBe("VALIDATION_FAILED");
	return error.metadata;
}

async function refusal(list: readonly Validator[], compiler = new ValidatorCompiler()): Promise<[string, string]> {
	const error = await Promise.resolve(compiler.compile(validators(list))).catch((error: unknown) => error);
	if (!(error instanceof HubError)) throw new Error("was accepted");
	return [error.reason, error.message];
}

describe("validators of a store", () => {
	it("name what refuses, where and by which rule", async () => {
		const list = [schema({ properties: { age: { maximum: 10 } } }), cel("value.age > 1")];
		expect(await verdict(list, { age: 5 })).toBeUndefined();
		expect(await verdict(list, { age: 11 })).toEqual({ validator: "schema", path: "/age", rule: "maximum 10" });
		expect(await verdict(list, { age: 1 })).toEqual({ validator: "rule", path: "", rule: "cel" });
	});

	it("look at the keys that they are for", async () => {
		const list = [cel("false", { keyGlob: "users/*" })];
		expect(await verdict(list, 1, { key: "groups/a" })).toBeUndefined();
		expect(await verdict(list, 1, { key: "users/a/b" })).toBeUndefined();
		expect(await verdict(list, 1, { key: "users/a" })).toMatchObject({ validator: "rule" });
	});

	it("with a schema take no value that is no JSON", async () => {
		for (const value of [Uint8Array.of(1), "{nope}"]) {
			expect(await verdict([schema(true)], value)).toEqual({ validator: "schema", path: "", rule: "json" });
		}
		expect(await verdict([schema({ type: "null" })], "null")).toBeUndefined();
	});

	it.each<[string, Parameters<typeof write>, boolean]>([
		['key.startsWith("k") && writer == "w"', [1], true],
		["value == 1", [1], true],
		["value > old_value", [2, { old: 1 }], true],
		["value > old_value", [1, { old: 2 }], false],
		["!exists && old_value == null", [1], true],
		["exists && old_value == null", [1, { old: Uint8Array.of(1) }], true],
		["value == null", [Uint8Array.of(1)], true],
		["!exists || value.version == old_value.version + 1.0", [{ version: 3 }, { old: { version: 2 } }], true],
		["value.missing == 1", [{}], false],
		["has(value.missing)", [{}], false],
		["value", [true], true],
		["value", [1], false],
		["value", ['"true"'], false],
		["value.__proto__ == 1", ['{"__proto__":1}'], true],
		["value.constructor == 1", [{}], false],
		["value.all(x, x in old_value)", [[1], { old: [1, 2] }], true],
		["value.exists(x, value.exists(y, x + y < 0.0))", [Array.from({ length: 4000 }, (_, at) => at)], false],
		["value.size() > 0", [Array.from({ length: 20_000 }, (_, at) => at)], false],
		["exists", [Array.from({ length: 20_000 }, (_, at) => at), { old: 1 }], true],
	])("by rule: %s %#", async (text, args, isTrue) => {
		expect((await verdict([cel(text)], ...args)) === undefined).toBe(isTrue);
	});

	it("are refused where they do not compile, with the field", async () => {
		const good = cel("true", { name: "good" });
		expect(await refusal([good, cel("nope == 1")])).toEqual([
			"INVALID_FILTER",
			'config.validators[1].cel: "nope" is unknown; a rule sees key, value, old_value, exists, writer',
		]);
		expect((await refusal([cel("key")]))[1]).toContain("does not give a bool");
		expect((await refusal([cel("")]))[1]).toBe("config.validators[0].cel: is empty");
		expect((await refusal([cel("x".repeat(4097))]))[1]).toContain("at most 4096");
		expect((await refusal([cel("value.exists(key, true)")]))[1]).toContain('"key" may not name');
		expect(await refusal([schema({ properties: { a: { type: "x" } } })])).toEqual([
			"INVALID_FIELD",
			expect.stringContaining("config.validators[0].json_schema: /properties/a/type: "),
		]);
		expect((await refusal([cel("true", { keyGlob: "a\\" })]))[1]).toContain("config.validators[0].key_glob: ends with");
		expect((await refusal([cel("true", { name: "" })]))[1]).toContain("config.validators[0].name: must be");
		expect((await refusal([good, good]))[1]).toContain('config.validators[1].name: "good" is there twice');
		expect((await refusal([{ name: "none" }]))[1]).toContain("config.validators[0]: must have a json_schema");
		const many = Array.from({ length: 9 }, (_, at) => cel("true", { name: `n${at}` }));
		expect((await refusal(many))[1]).toContain("config.validators: has 9; at most 8");
		expect((await refusal([{ name: "f", rule: { case: "function", value: "toString" } }]))[1]).toBe(
			'config.validators[0].function: "toString" is not registered with this hub',
		);
	});
});

describe("a function of the embedder", () => {
	const functions: Record<string, EntryFunction> = {
		even: ({ value }) => (Number(value) % 2 === 0 ? undefined : { path: "/x", rule: "even", message: "is odd" }),
		throws: () => {
			throw new Error("oops");
		},
		late: (() => Promise.resolve()) as unknown as EntryFunction,
		small: ({ binary }) => (binary!.byteLength < 3 ? undefined : { message: "is long" }),
	};

	it.each<[string, unknown, object | undefined]>([
		["even", 2, undefined],
		["even", 3, { validator: "f", path: "/x", rule: "even" }],
		["throws", 1, { validator: "f", path: "", rule: "function" }],
		["late", 1, { validator: "f", path: "", rule: "function" }],
		["small", Uint8Array.of(1), undefined],
		["small", Uint8Array.of(1, 2, 3), { validator: "f", path: "", rule: "function" }],
	])("%s judges %#", async (name, value, metadata) => {
		const compiler = new ValidatorCompiler(new Map(Object.entries(functions)));
		const compiled = await compiler.compile(validators([{ name: "f", rule: { case: "function", value: name } }]));
		expect(compiled.check(write(value))?.metadata).toEqual(metadata);
	});

	it("that this hub does not have lets nothing be written to a store that was made with it", async () => {
		const list = validators([{ name: "f", rule: { case: "function", value: "gone" } }]);
		const compiled = await new ValidatorCompiler().compile(list, "stored");
		expect(compiled.check(write(1))?.reason).toBe("VALIDATION_FAILED");
	});
});

it("keeps a bounded number of stores compiled, those that are asked first of all", async () => {
	const compiler = new ValidatorCompiler();
	const first = await compiler.compile(validators([cel("value > 0")]));
	for (let round = 0; round < 3; round++) {
		for (let at = 0; at < 500; at++) await compiler.compile(validators([cel(`value > ${at}`)]));
		expect(first.check(write(0))?.reason).toBe("VALIDATION_FAILED");
		expect(first.check(write(1))).toBeUndefined();
	}
	expect(compiler.size).toBeLessThanOrEqual(1000);
	const large = schema({ description: "x".repeat(60_000) });
	for (let at = 0; at < 100; at++) await compiler.compile(validators([large]));
	expect(compiler.size).toBeLessThanOrEqual(75);
});
