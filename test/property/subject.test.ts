import { existsSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { HubError } from "../../src/hub-error.ts";
import { parsePluginId } from "../../src/subjects/plugin-id.ts";
import { isLifecycleType, parseSubject } from "../../src/subjects/subject.ts";

const TOKEN_CHARACTERS = "ABCXYZabcxyz0189_-";
const token = fc.string({ unit: fc.constantFrom(...TOKEN_CHARACTERS), minLength: 1, maxLength: 64 });
const parts = fc.array(fc.tuple(token, fc.constantFrom(".", ":")), { minLength: 1, maxLength: 16 });

function refusal(run: () => unknown): HubError {
	try {
		run();
	} catch (error) {
		if (error instanceof HubError) return error;
		throw error;
	}
	throw new Error("was accepted");
}

describe("subjects", () => {
	it("keep their spelling and have one canonical form", () => {
		fc.assert(
			fc.property(parts, (parts) => {
				const spelling = parts.map(([token, separator], index) => (index === 0 ? token : separator + token)).join("");
				const subject = parseSubject(spelling, "type");
				expect(subject.spelling).toBe(spelling);
				expect(subject.tokens).toEqual(parts.map(([token]) => token));
				expect(subject.canonical).toBe(subject.tokens.join("."));
				expect(parseSubject(subject.canonical, "type").canonical).toBe(subject.canonical);
				expect(parseSubject(spelling, "type")).toEqual(subject);
			}),
		);
	});

	it("are accepted or refused as the rule says, whatever the text", () => {
		const text = fc.oneof(
			fc.string({ unit: fc.constantFrom("a", "Z", "0", "_", "-", ".", ":", "*", " ", "é", "\0"), maxLength: 12 }),
			fc.string({ unit: "grapheme", maxLength: 8 }),
		);
		fc.assert(
			fc.property(text, (text) => {
				const tokens = text.split(/[.:]/);
				const valid = tokens.length <= 16 && tokens.every((token) => /^[A-Za-z0-9_-]{1,64}$/.test(token));
				if (valid) expect(parseSubject(text, "type").tokens).toEqual(tokens);
				else expect(refusal(() => parseSubject(text, "type")).reason).toBe("INVALID_EVENT_TYPE");
			}),
			{ numRuns: 2000 },
		);
	});

	it.each([
		["", "event.type: is empty"],
		["a..b", "event.type: token 2 is empty"],
		["a:", "event.type: token 2 is empty"],
		["user.na me", 'event.type: token 2 has " "'],
		["a.*", 'event.type: token 2 has "*"'],
		["x".repeat(300), "event.type: token 1 has 300 characters; at most 64 are allowed"],
		["😀", 'event.type: token 1 has "😀"'],
		["a\n", 'event.type: token 1 has "\\n"'],
		["y".repeat(2_000_000), "event.type: has 2000000 characters; at most 1039 are allowed"],
		[Array(17).fill("a").join(":"), "event.type: has 17 tokens; at most 16 are allowed"],
	])("names what is wrong with a bad one", (text, message) => {
		const error = refusal(() => parseSubject(text, "event.type"));
		expect(error.message).toContain(message);
		expect(error.message.length).toBeLessThan(200);
		expect(error.options.violations?.[0]?.field).toBe("event.type");
	});

	it("knows the types that only the hub may emit", () => {
		for (const text of ["plugin:registered", "plugin.registered", "plugin:offline", "plugin.unregistered"]) {
			expect(isLifecycleType(parseSubject(text, "type")), text).toBe(true);
		}
		for (const text of [
			"plugin:custom-event",
			"plugin.initialized",
			"plugin",
			"plugin:registered:now",
			"Plugin:online",
		]) {
			expect(isLifecycleType(parseSubject(text, "type")), text).toBe(false);
		}
	});

	const published = new URL("../../../shared/data/event-types.txt", import.meta.url);
	it.runIf(existsSync(published))("takes every event type the platform documents", () => {
		const types = readFileSync(published, "utf8").split("\n").filter(Boolean);
		expect(types.length).toBeGreaterThan(40);
		for (const type of types) expect(parseSubject(type, "type").spelling).toBe(type);
	});
});

describe("plugin ids", () => {
	it.each(["a", "0", "weather", "qirvo.weather-widget", "a_b", "x".repeat(128)])("takes %j", (id) => {
		expect(parsePluginId(id, "plugin")).toBe(id);
	});

	it.each([
		["", "is empty"],
		["x".repeat(129), "has 129 characters"],
		["-a", 'starts with "-"'],
		[".a", 'starts with "."'],
		["Weather", 'has "W" at position 1'],
		["a b", 'has " " at position 2'],
		["a\n", 'has "\\n" at position 2'],
		["hub", '"hub" is reserved'],
		["operator", '"operator" is reserved'],
	])("refuses %j", (id, message) => {
		const error = refusal(() => parsePluginId(id, "target.plugin"));
		expect(error.reason).toBe("INVALID_PLUGIN_ID");
		expect(error.message).toContain(`target.plugin: ${message}`);
	});
});
