import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ListOrder } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { HubError } from "../../src/hub-error.ts";
import { EventHub, FakeCall, operator, plugin } from "../harness/event-hub.ts";

let hub: EventHub;

beforeEach(async () => {
	hub = await EventHub.open();
});

afterEach(async () => {
	hub.assertNothingLeft();
	await hub[Symbol.asyncDispose]();
});

type Query = Parameters<EventHub["listEvents"]>[0];

/** Every page of a query, in order. */
async function allPages(query: Query): Promise<{ subjects: string[]; pages: number }> {
	const subjects: string[] = [];
	let pageToken = "";
	for (let pages = 1; ; pages++) {
		const page = await hub.listEvents({ ...query, pageToken });
		expect(page.epoch).toBe(hub.log.epoch);
		subjects.push(...page.events.map((event) => event.subject));
		pageToken = page.nextPageToken;
		if (pageToken === "") return { subjects, pages };
		expect(pages).toBeLessThan(1000);
	}
}

function at(ms: number) {
	return { seconds: BigInt(Math.floor(ms / 1000)), nanos: (ms % 1000) * 1_000_000 };
}

describe("history", () => {
	let began: number;
	const published: { subject: string; type: string; source: string; time: number }[] = [];

	beforeEach(async () => {
		began = hub.clock.now();
		published.length = 0;
		for (let index = 0; index < 60; index++) {
			const type = ["a.x", "a:y", "b"][index % 3]!;
			const source = ["one", "two"][index % 2]!;
			await hub.emit({ type, subject: String(index) }, plugin(source));
			published.push({ subject: String(index), type, source, time: hub.clock.now() });
			await hub.clock.advance(10);
		}
	});

	const cases: [string, Query, (event: (typeof published)[number]) => boolean][] = [
		["of everything", { patterns: ["**"] }, () => true],
		["of one type", { patterns: ["a.y"] }, ({ type }) => type === "a:y"],
		["of two patterns", { patterns: ["a.*", "b"] }, () => true],
		["of a pattern", { patterns: ["a.*"] }, ({ type }) => type !== "b"],
		["of a source", { patterns: ["**"], source: "two" }, ({ source }) => source === "two"],
		["of a source and a pattern", { patterns: ["b"], source: "one" }, (e) => e.source === "one" && e.type === "b"],
	];

	for (const order of [ListOrder.OLDEST_FIRST, ListOrder.NEWEST_FIRST]) {
		for (const pageSize of [0, 1, 7]) {
			test.each(cases)(`%s, order ${order}, page size ${pageSize}`, async (_, query, wanted) => {
				const expected = published.filter(wanted).map((event) => event.subject);
				if (order === ListOrder.NEWEST_FIRST) expected.reverse();
				const { subjects, pages } = await allPages({ ...query, order, pageSize });
				expect(subjects).toEqual(expected);
				expect(pages).toBeGreaterThanOrEqual(Math.ceil(expected.length / (pageSize || 50)));
			});
		}

		test(`between two times, order ${order}`, async () => {
			const startTime = at(began + 95);
			const endTime = at(began + 300);
			const expected = published
				.filter(({ time }) => time >= began + 95 && time < began + 300)
				.map((event) => event.subject);
			expect(expected).toHaveLength(20);
			if (order === ListOrder.NEWEST_FIRST) expected.reverse();
			expect((await allPages({ patterns: ["**"], startTime, endTime, order, pageSize: 6 })).subjects).toEqual(expected);
		});
	}

	test("shows events as they were delivered, not as replayed", async () => {
		const { events } = await hub.listEvents({ patterns: ["**"], pageSize: 1 });
		expect(events).toMatchObject([
			{ type: "a.x", source: "one", sequence: 1n, isReplay: false, hubTime: at(began), subject: "0" },
		]);
	});

	test("binds a token to its query", async () => {
		const { nextPageToken: pageToken } = await hub.listEvents({ patterns: ["a.*"], pageSize: 3 });
		for (const query of [
			{ patterns: ["b"] },
			{ patterns: ["a.*"], source: "one" },
			{ patterns: ["a.*"], order: ListOrder.NEWEST_FIRST },
			{ patterns: ["a.*"], startTime: at(began) },
		]) {
			await expect(hub.listEvents({ ...query, pageToken })).rejects.toMatchObject({ reason: "INVALID_PAGE_TOKEN" });
		}
		expect((await hub.listEvents({ patterns: ["a.*"], pageSize: 5, pageToken })).events).toHaveLength(5);
	});
});

test("ends a page at about 1 MiB", async () => {
	const json = JSON.stringify("x".repeat(400_000));
	for (let index = 0; index < 5; index++) {
		await hub.emit({ type: "a", subject: String(index), payload: { body: { case: "json", value: json } } });
	}
	for (const order of [ListOrder.OLDEST_FIRST, ListOrder.NEWEST_FIRST]) {
		const { subjects, pages } = await allPages({ patterns: ["a"], order });
		expect(pages).toBe(3);
		expect(subjects.toSorted()).toEqual(["0", "1", "2", "3", "4"]);
	}
});

test("gives a short page rather than look through all of a long history", async () => {
	for (let index = 0; index < 10_000; index++) await hub.emit({ type: "a" }, plugin("one"));
	await hub.emit({ type: "a", subject: "found" }, plugin("two"));
	const first = await hub.listEvents({ patterns: ["a"], source: "two" });
	expect(first.events).toEqual([]);
	expect(first.nextPageToken).not.toBe("");
	const { subjects, pages } = await allPages({ patterns: ["a"], source: "two" });
	expect(subjects).toEqual(["found"]);
	expect(pages).toBe(2);
});

test.each([
	["without patterns", { patterns: [] }, "INVALID_FIELD", "patterns"],
	["with a bad pattern", { patterns: ["a..b"] }, "INVALID_PATTERN", "patterns[0]"],
	["with a bad source", { patterns: ["a"], source: "A b" }, "INVALID_PLUGIN_ID", "source"],
	["with a negative page size", { patterns: ["a"], pageSize: -1 }, "INVALID_FIELD", "page_size"],
	["with an unknown order", { patterns: ["a"], order: 9 }, "INVALID_FIELD", "order"],
	["with no token at all", { patterns: ["a"], pageToken: "!" }, "INVALID_PAGE_TOKEN", "page_token"],
	["with an impossible time", { patterns: ["a"], endTime: { nanos: -1 } }, "INVALID_FIELD", "end_time"],
])("a question %s is refused", async (_, query, reason, field) => {
	await expect(hub.listEvents(query)).rejects.toMatchObject({ reason, metadata: { field } });
});

test("history needs the replay grant", async () => {
	hub.guard.deny = (_, kind) => {
		throw new HubError("INSUFFICIENT_PERMISSIONS", `no grant in ${kind}`);
	};
	await expect(hub.listEvents({ patterns: ["a"] })).rejects.toMatchObject({ message: "no grant in replay" });
});

test("open subscriptions are paged, and a plugin sees its own only", async () => {
	const open = [];
	for (const id of ["a", "b", "a", "b", "a"]) {
		const frames = hub.subscribe({ patterns: ["x"] }, new FakeCall(plugin(id)));
		await frames.next();
		open.push(frames);
	}
	const seen: string[] = [];
	let pageToken = "";
	do {
		const page = await hub.listSubscriptions({ pageSize: 2, pageToken }, operator);
		seen.push(...page.subscriptions.map((subscription) => subscription.pluginId));
		pageToken = page.nextPageToken;
	} while (pageToken !== "");
	expect(seen.toSorted()).toEqual(["a", "a", "a", "b", "b"]);
	expect((await hub.listSubscriptions({ pluginId: "b" }, operator)).subscriptions).toHaveLength(2);
	expect((await hub.listSubscriptions({}, plugin("a"))).subscriptions).toHaveLength(3);
	await expect(hub.listSubscriptions({ pluginId: "b" }, plugin("a"))).rejects.toMatchObject({
		reason: "CALLER_NOT_ALLOWED",
	});
	expect(hub.audited).toMatchObject([
		{ event: "data_access_denied", actor: "plugin:a", reason: "caller_not_allowed", details: { asked: "b" } },
	]);
	const { nextPageToken } = await hub.listSubscriptions({ pageSize: 1 }, operator);
	await expect(hub.listSubscriptions({ pluginId: "b", pageToken: nextPageToken }, operator)).rejects.toMatchObject({
		reason: "INVALID_PAGE_TOKEN",
	});
	for (const frames of open) await frames.return();
});
