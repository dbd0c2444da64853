import { afterEach, describe, expect, it } from "vitest";
import { checkJson } from "../../src/content/json-structure.ts";
import { compileEventFilter } from "../../src/expressions/event-filter.ts";
import { EventView, type FilteredEvent } from "../../src/expressions/event-view.ts";
import { HubError } from "../../src/hub-error.ts";

const weather: FilteredEvent = {
	id: "1",
	type: "weather:updated",
	source: "weather",
	subject: "oslo",
	attributes: { unit: "metric" },
	time: Date.UTC(2030, 5, 1),
	isReplay: false,
	json: JSON.stringify({
		temperature: 31,
		text: "héé😀",
		stations: [
			{ name: "north", readings: [1, 2] },
			{ name: "south", readings: [3] },
		],
		constructor: { a: 1 },
	}),
};

async function outcome(text: string, event: FilteredEvent = weather): Promise<boolean | string> {
	const filter = await compileEventFilter(text, "filter");
	let problem: string | undefined;
	const matched = filter.matches(new EventView(event), (text) => {
		problem = text;
	});
	return problem ?? matched;
}

async function refusal(text: string): Promise<string> {
	const error = await compileEventFilter(text, "subscribe.filter").catch((error: unknown) => error);
	if (!(error instanceof HubError)) throw new Error("was accepted", { cause: error });
	expect(error.reason).toBe("INVALID_FILTER");
	expect(error.options.violations?.[0]?.field).toBe("subscribe.filter");
	expect(error.message.length).toBeLessThan(300);
	return error.message;
}

const stackTraceLimit = Error.stackTraceLimit;
afterEach(() => expect(Error.stackTraceLimit).toBe(stackTraceLimit));

describe("a filter", () => {
	it.each([
		['event.type == "weather:updated" && event.source != "news"', true],
		['event["type"] == "weather:updated"', true],
		['event.id == "1" && event.subject.startsWith("os")', true],
		['event.attributes.unit == "metric" && !("k" in event.attributes)', true],
		["event.is_replay", false],
		['event.time > timestamp("2029-01-01T00:00:00Z") && event.time.getFullYear() == 2030', true],
		["event.data.temperature > 30 && event.data.temperature == 31", true],
		["has(event.data.temperature) && !has(event.data.wind)", true],
		['event.data.stations.exists(s, s.name == "south" && s.readings.exists(r, r == 3))', true],
		['event.data.stations.filter(s, s.readings.size() > 1).map(s, s.name) == ["north"]', true],
		['event.data.stations.all(s, s.name in ["north", "south"])', true],
		["size(event.data.text) == 4", true],
		["event.data == event.data", true],
		["event.data.constructor.a == 1", true],
		["event.data.wind > 3 || event.data.temperature > 30", true],
		['event.data.temperature > 30 ? event.source == "weather" : false', true],
		['int("5") == 5 && string(event.data.temperature) == "31"', true],
		['event.type + "!" == "weather:updated!"', true],
	])("%s: %s", async (text, expected) => {
		expect(await outcome(text)).toBe(expected);
	});

	it.each([
		["event.data.wind > 3", "field not found"],
		["event.data.temperature", "does not give a bool"],
		["event.data.text > 3", "no matching overload"],
		["event.data.__proto__ == 1", "field not found"],
		["event.data.toString == 1", "field not found"],
	])("that cannot be evaluated matches nothing: %s", async (text, problem) => {
		expect(await outcome(text)).toContain(problem);
	});

	it("says why it cannot read data that is not there, is no JSON, or is too large", async () => {
		const reads = 'event.data.x == 1 || event.type == "other"';
		expect(await outcome(reads, { ...weather, json: undefined })).toContain("no JSON data");
		expect(await outcome(reads, { ...weather, json: "{" })).toContain("JSON");
		expect(await outcome(reads, { ...weather, json: JSON.stringify(Array(20_000).fill(1)) })).toContain("10000 values");
		const deep = `${"[".repeat(100)}${"]".repeat(100)}`;
		expect(await outcome(reads, { ...weather, json: deep })).toContain("64 levels");
		expect(await outcome('event.data.x == 1 || event.type == "weather:updated"', { ...weather, json: "{" })).toBe(true);
	});

	it("parses the data of an event at most once, and only if it is read", async () => {
		let reads = 0;
		const view = new EventView({
			...weather,
			get json() {
				reads++;
				return weather.json;
			},
		});
		const bySource = await compileEventFilter('event.source == "weather"', "filter");
		const byData = await compileEventFilter("event.data.temperature > 30", "filter");
		expect(bySource.matches(view)).toBe(true);
		expect(reads).toBe(0);
		expect(byData.matches(view)).toBe(true);
		const once = reads;
		expect(byData.matches(view)).toBe(true);
		expect(reads).toBe(once);
	});

	it("sees each event afresh", async () => {
		const filter = await compileEventFilter("event.data.n > 1", "filter");
		const results = [1, 2, 0, 3].map((n) => filter.matches(new EventView({ ...weather, json: JSON.stringify({ n }) })));
		expect(results).toEqual([false, true, false, true]);
	});
});

describe("a filter is refused", () => {
	it.each([
		["", "is empty"],
		["event.type ==", "line 1, column 12: unexpected"],
		["(((1", "line 1, column 5: unexpected end"],
		["event.type ==\n  == 1", "line 1, column 12"],
		["1 + 1", "does not give a bool"],
		["event.type", "does not give a bool"],
		["event.data.list.map(i, i.x)", "does not give a bool"],
		["!event.type", "something that is not a bool"],
		["true && 1", "something that is not a bool"],
		["evnt.type == 'a'", '"evnt" is unknown'],
		["event.kind == 'a'", 'event has no field "kind"'],
		["event.type.matches('(a+)+b')", "may not use matches()"],
		["frobnicate(1)", '"frobnicate" is not a function'],
		["google.protobuf.Duration{seconds: 1} == duration('1s')", "may not make messages"],
		["event.data.l.exists(event, event.x)", '"event" may not name'],
		["event.data.l.all(a, a.all(b, b.all(c, c > 1)))", "nests more than 2"],
		[`[${"1,".repeat(200)}1] == []`, "more than 128 elements"],
		["[".repeat(1000), "nests deeper than 48 levels"],
		["(".repeat(2000), "nests deeper than 48 levels"],
		[`${"1+".repeat(900)}1 == 2`, "nests deeper than 48 levels"],
		[`${`[${"1,".repeat(100)}1] == [] || `.repeat(9)}true`, "more than 512 operations"],
		["x".repeat(2049), "has 2049 characters; at most 2048"],
		["@charge([1], 0) == [1]", "unexpected"],
		["'unfinished", "unexpected"],
	])("%#", async (text, problem) => {
		expect(await refusal(text)).toContain(problem);
	});
});

describe("work that a filter may not do", () => {
	const numbers = Array.from({ length: 4000 }, (_, index) => index);
	const bomb: FilteredEvent = {
		...weather,
		json: JSON.stringify({ l: numbers, s: numbers.map(String), a: "a".repeat(400_000), b: `b${"a".repeat(200_000)}` }),
	};
	const costly = "the filter costs too much on this event";

	it.each([
		["a list inside itself", "event.data.l.exists(a, event.data.l.exists(b, a + b < 0.0))"],
		[
			"a list inside itself, left at its first element",
			"event.data.l.exists(a, event.data.l.exists(b, true) && false)",
		],
		["a search for a long text in a long text", "event.data.a.contains(event.data.b)"],
		["a long text searched again and again", "event.data.s.exists(s, event.data.a.contains(s))"],
		["data compared again and again", "event.data.l.exists(a, event.data != event.data)"],
		["membership asked again and again", "event.data.l.all(a, a in event.data.l)"],
		["a list built element by element", "event.data.l.map(a, a).size() == 0"],
		["an exhausted evaluation negated", "!event.data.l.exists(a, event.data.l.exists(b, a + b < 0.0))"],
	])("is stopped: %s", async (_, text) => {
		expect(await outcome(text, bomb)).toBe(costly);
	});

	it("is refused for text that grows", async () => {
		expect(await outcome("event.data.a + event.data.a == ''", bomb)).toContain("+ makes more than 65536");
		expect(await outcome("bytes(event.data.a) == b''", bomb)).toContain("+ makes more than 65536");
		expect(await outcome("int(event.data.a) == 1", bomb)).toContain("reads at most 64 characters");
	});

	it("does not take from the next evaluation", async () => {
		const view = new EventView(bomb);
		const spends = await compileEventFilter("event.data.l.exists(a, event.data.l.exists(b, a + b < 0.0))", "filter");
		const modest = await compileEventFilter("event.data.l.exists(a, a == 3999.0)", "filter");
		expect(spends.matches(view)).toBe(false);
		expect(modest.matches(view)).toBe(true);
	});
});

describe("the structure of JSON", () => {
	it.each([
		"{}",
		' {"a":[1,2,{"b":"}]"}]} ',
		'"a\\"b"',
		"1",
		"null\n",
		`${"[".repeat(64)}${"]".repeat(64)}`,
		'{"é":"\\\\"}',
	])("holds: %#", (text) => {
		expect(checkJson(text)).toBeUndefined();
		expect(checkJson(new TextEncoder().encode(text))).toBeUndefined();
	});

	it.each([
		["", "is empty", 0],
		[" \n", "is empty", 0],
		["{", '"}" is missing at the end', 1],
		['{"a":[1}', '"}" closes nothing', 7],
		["]", '"]" closes nothing', 0],
		['{"a":"b', "a string does not end", 5],
		['"a\\"', "a string does not end", 0],
		['"a\\', "a string does not end", 0],
		["{}{}", "goes on after its end", 2],
		['{"é":1} x', "goes on after its end", 9],
		[`${"[".repeat(200)}${"]".repeat(200)}`, "nests deeper than 64 levels", 64],
		[`${'{"a":'.repeat(65)}1${"}".repeat(65)}`, "nests deeper than 64 levels", 320],
	])("is broken: %#", (text, problem, offset) => {
		expect(checkJson(text)).toEqual({ problem, offset });
	});

	it("has the depth bound it is given", () => {
		expect(checkJson("[[1]]", 2)).toBeUndefined();
		expect(checkJson("[[1]]", 1)).toEqual({ problem: "nests deeper than 1 levels", offset: 1 });
		expect(checkJson("[]", 0)).toEqual({ problem: "nests deeper than 0 levels", offset: 0 });
	});
});
