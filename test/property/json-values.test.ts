import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CONTENT_LIMITS } from "../../src/content/content-limits.ts";
import { equalJson, jsonIdentity } from "../../src/content/json-equality.ts";
import { HubError } from "../../src/hub-error.ts";
import { addedTo, appendedTo } from "../../src/stores/json-values.ts";

const names = fc.constantFrom("a", "b", "__proto__", "constructor", "toString", "valueOf");
const { value: json } = fc.letrec((tie) => ({
	value: fc.oneof(
		{ maxDepth: 3 },
		fc.constantFrom(null, true, false, 0, -0, 1, 1.5, "", "1", "[]", "null"),
		fc.array(tie("value"), { maxLength: 3 }),
		fc.array(fc.tuple(names, tie("value")), { maxLength: 3 }).map(withMembers),
	),
}));

/** An object with own members of any name. */
function withMembers(members: readonly (readonly [string, unknown])[]): unknown {
	const text = [...new Map(members)].map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join();
	return JSON.parse(`{${text}}`);
}

function reordered(value: unknown): unknown {
	if (Array.isArray(value)) return value.map(reordered);
	if (value === null || typeof value !== "object") return value;
	return withMembers(
		Object.entries(value)
			.map(([name, member]) => [name, reordered(member)] as const)
			.reverse(),
	);
}

function failure(run: () => unknown): [string, string] {
	try {
		run();
	} catch (error) {
		if (error instanceof HubError) return [error.reason, error.message];
		throw error;
	}
	throw new Error("did not fail");
}

describe("equality of JSON", () => {
	it("ignores the order of members and nothing else", () => {
		fc.assert(
			fc.property(json, json, (left, right) => {
				expect(equalJson(left, reordered(left))).toBe(true);
				expect(jsonIdentity(left)).toBe(jsonIdentity(reordered(left)));
				expect(equalJson(left, right)).toBe(jsonIdentity(left) === jsonIdentity(right));
				expect(equalJson(left, right)).toBe(equalJson(right, left));
			}),
			{ numRuns: 5000 },
		);
	});

	it.each([
		['{"__proto__":1}', "{}"],
		['{"__proto__":null}', "{}"],
		['{"toString":1}', "{}"],
		['["1"]', "[1]"],
		["{}", "[]"],
		["[]", "null"],
		["[1,2]", "[2,1]"],
	])("tells %s from %s", (left, right) => {
		expect(equalJson(JSON.parse(left), JSON.parse(right))).toBe(false);
		expect(jsonIdentity(JSON.parse(left))).not.toBe(jsonIdentity(JSON.parse(right)));
	});
});

describe("adding to a number", () => {
	it("agrees with exact arithmetic", () => {
		const most = BigInt(Number.MAX_SAFE_INTEGER);
		const number = fc.oneof(fc.bigInt(-most, most), fc.constantFrom(most, -most, 0n));
		fc.assert(
			fc.property(number, number, (before, delta) => {
				const sum = before + delta;
				const run = () => addedTo(String(before), delta, "delta");
				if (sum > most || sum < -most) expect(failure(run)[0]).toBe("INVALID_FIELD");
				else expect(run()).toEqual({ text: String(sum), number: Number(sum) });
			}),
		);
	});

	it.each([
		[undefined, "5"],
		["1.00", "6"],
		[" -5\n", "0"],
		["-0", "5"],
	])("counts %s", (text, sum) => {
		expect(addedTo(text, 5n, "delta").text).toBe(sum);
	});

	it.each([
		"",
		"1.5",
		"1e3",
		"01",
		'"1"',
		"9007199254740992",
		"-9007199254740992",
		"9".repeat(400),
		"null",
		"1 2",
		"+1",
	])("refuses what is no such integer: %s", (text) => {
		expect(failure(() => addedTo(text, 0n, "delta"))[0]).toBe("VALUE_MISMATCH");
	});

	it("refuses a delta beyond the bounds", () => {
		expect(failure(() => addedTo("0", 2n ** 53n, "increment.delta"))).toEqual([
			"INVALID_FIELD",
			"increment.delta: must be within +-9007199254740991",
		]);
	});
});

describe("appending to an array", () => {
	it("adds what is not there, once", () => {
		fc.assert(
			fc.property(fc.array(json, { maxLength: 4 }), json, (items, element) => {
				const before = JSON.stringify(items);
				const isKnown = items.some((item) => equalJson(item, element));
				const after = appendedTo(before, JSON.stringify(element), "element_json");
				expect(after.changed).toBe(!isKnown);
				expect(after.text.startsWith(before.slice(0, -1))).toBe(true);
				expect(equalJson(JSON.parse(after.text), isKnown ? items : [...items, element])).toBe(true);
				expect(appendedTo(after.text, JSON.stringify(reordered(element)), "element_json").changed).toBe(false);
			}),
			{ numRuns: 3000 },
		);
	});

	it("keeps the spelling of what is there and of what is added", () => {
		expect(appendedTo(' [ 1.0 , {"b":1,  "a":"]"} ]\n', ' { "x" : 1e2 } ', "element_json").text).toBe(
			' [ 1.0 , {"b":1,  "a":"]"} ,{ "x" : 1e2 }]\n',
		);
		expect(appendedTo(undefined, "1", "element_json")).toEqual({ text: "[1]", changed: true });
		expect(appendedTo("[ ]", "1", "element_json").text).toBe("[ 1]");
	});

	it.each(["{}", "1", "null", "", "[1", "[1}", "[nope]", `${"[".repeat(65)}${"]".repeat(65)}`])(
		"refuses to append to %#",
		(text) => {
			expect(failure(() => appendedTo(text, "1", "element_json"))[0]).toBe("VALUE_MISMATCH");
		},
	);

	it("stays within the bounds of content", () => {
		expect(failure(() => appendedTo("[]", "{", "append.element_json"))).toEqual([
			"INVALID_FIELD",
			"append.element_json: must be a JSON text",
		]);
		const deep = `${"[".repeat(64)}${"]".repeat(64)}`;
		expect(failure(() => appendedTo("[]", deep, "element_json"))[0]).toBe("INVALID_CONTENT");
		const large = JSON.stringify(["x".repeat(CONTENT_LIMITS.contentBytes - 10)]);
		expect(failure(() => appendedTo(large, '"yyyyyyyyyy"', "element_json"))[0]).toBe("INVALID_CONTENT");
	});
});
