import fc from "fast-check";
import Range from "semver/classes/range.js";
import compare from "semver/functions/compare.js";
import { describe, expect, it } from "vitest";
import { HubError } from "../../src/hub-error.ts";
import { compareVersions, parseRange, parseVersion, satisfies } from "../../src/versions/semver-range.ts";

const number = fc.nat(3);
const triple = fc.tuple(number, number, number).map((parts) => parts.join("."));
const version = fc
	.tuple(triple, fc.constantFrom("", "", "-0", "-alpha", "-alpha.1", "-rc.2"), fc.constantFrom("", "+build"))
	.map((parts) => parts.join(""));
const operator = fc.constantFrom("", "=", "^", "~", ">", ">=", "<", "<=");
const bound = fc.oneof(
	fc.tuple(operator, version).map((parts) => parts.join("")),
	fc.constantFrom("*", "1.x", "~1.2", "^0.1", "1 - 2.1", "0.2.x || 3"),
);
const range = fc.array(fc.array(bound, { minLength: 1, maxLength: 2 }), { minLength: 1, maxLength: 3 });

const admits = (wanted: string, given: string) =>
	satisfies(parseVersion(given, "version"), parseRange(wanted, "range"));

describe("version ranges", () => {
	it("order versions as semver does", () => {
		fc.assert(
			fc.property(version, version, (left, right) => {
				const order = compareVersions(parseVersion(left, "left"), parseVersion(right, "right"));
				expect(Math.sign(order)).toBe(compare(left, right));
			}),
			{ numRuns: 1000 },
		);
	});

	it("read a plain version as what is compatible with it", () => {
		fc.assert(
			fc.property(triple, version, (wanted, given) => {
				const [major = 0, minor = 0] = wanted.split(".").map(Number);
				const inside = compare(given, `${major}.${minor}.0`) >= 0 && compare(given, `${major + 1}.0.0-0`) < 0;
				expect(admits(wanted, given)).toBe(inside);
			}),
			{ numRuns: 1000 },
		);
	});

	it("read everything else as npm does, pre-releases by their order", () => {
		const written = range
			.map((alternatives) => alternatives.map((bounds) => bounds.join(" ")).join(" || "))
			.filter((text) => !/^\d+\.\d+\.\d+$/.test(text))
			.filter((text) => !/\d - \d\S* \S|\S \d+ - /.test(text));
		fc.assert(
			fc.property(written, version, (wanted, given) => {
				expect(admits(wanted, given)).toBe(new Range(wanted, { includePrerelease: true }).test(given));
			}),
			{ numRuns: 2000 },
		);
	});

	it.each([
		["1.2.3", "1.2.0", true],
		["1.2.3", "1.1.9", false],
		["1.2.3", "1.9.9", true],
		["1.2.3", "2.0.0-rc.1", false],
		["1.2.3", "1.2.0-rc.1", false],
		["1.2.3", "1.3.0-rc.1", true],
		["0.2.3", "0.9.0", true],
		["0.2.3", "1.0.0", false],
		["v1.2.3", "1.4.0", true],
		["=1.2.3", "1.2.4", false],
		[">=1.0.0", "1.1.0-rc.1", true],
		[">=1.0.0", "1.0.0-rc.1", false],
		["*", "0.0.0-alpha", true],
	])("%s admits %s: %s", (wanted, given, expected) => {
		expect(admits(wanted, given)).toBe(expected);
	});

	it.each(["", " ", "latest", "1.2.3.4", ">>1", "99999999999999999999.0.0", `>=1.0.0 ${"|| 1 ".repeat(100)}`])(
		"refuse the range %j",
		(text) => {
			expect(() => parseRange(text, "criteria.version")).toThrow(HubError);
			expect(() => parseRange(text, "criteria.version")).toThrow("criteria.version: ");
		},
	);

	it.each(["", "1", "1.2", "01.2.3", "1.2.3-01", "latest", "1.2.3 || 2.0.0", "1".repeat(300)])(
		"refuse the version %j",
		(text) => {
			expect(() => parseVersion(text, "version")).toThrow(HubError);
		},
	);
});
