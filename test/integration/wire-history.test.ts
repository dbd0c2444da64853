import { timestampMs } from "@bufbuild/protobuf/wkt";
import { expect, it } from "vitest";
import { ListOrder } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { failureOf } from "../harness/failure.ts";
import { Feed } from "../harness/feed.ts";
import { type Clients, describeHubs, until } from "../harness/hub.ts";

type ListRequest = Parameters<Clients["events"]["listEvents"]>[0];

describeHubs("history", (start) => {
	it("is listed in both orders, page by page, by pattern, source and time", async () => {
		await using hub = await start();
		const [one, two] = [await hub.enrol("one"), await hub.enrol("two")];
		let middle: Awaited<ReturnType<typeof one.events.emit>> | undefined;
		for (let index = 0; index < 10; index++) {
			const answer = await (index % 2 === 0 ? one : two).events.emit({ event: { type: `n.${index}` } });
			if (index === 4) {
				middle = answer;
				await until(() => Date.now() > timestampMs(answer.hubTime!));
			}
			if (index === 3) await until(() => Date.now() > timestampMs(answer.hubTime!));
		}
		const types = async (request: ListRequest) =>
			(await one.events.listEvents({ patterns: ["n.*"], ...request })).events.map(({ type }) => Number(type.slice(2)));
		const all = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
		expect(await types({})).toEqual(all);
		expect(await types({ order: ListOrder.OLDEST_FIRST })).toEqual(all);
		expect(await types({ order: ListOrder.NEWEST_FIRST })).toEqual(all.toReversed());
		expect(await types({ source: "two" })).toEqual([1, 3, 5, 7, 9]);
		expect(await types({ patterns: ["n.3", "n:7"] })).toEqual([3, 7]);
		expect(await types({ startTime: middle?.hubTime })).toEqual([4, 5, 6, 7, 8, 9]);
		expect(await types({ endTime: middle?.hubTime })).toEqual([0, 1, 2, 3]);
		expect(await types({ startTime: middle?.hubTime, source: "two", order: ListOrder.NEWEST_FIRST })).toEqual([
			9, 7, 5,
		]);

		for (const order of [ListOrder.OLDEST_FIRST, ListOrder.NEWEST_FIRST]) {
			const request = { patterns: ["n.*"], order, pageSize: 3 };
			const seen: number[] = [];
			let pageToken = "";
			do {
				const page = await one.events.listEvents({ ...request, pageToken });
				expect(page.events.length).toBeLessThanOrEqual(3);
				expect(page.epoch).toBe(middle?.position?.epoch);
				seen.push(...page.events.map(({ type }) => Number(type.slice(2))));
				// What is published meanwhile does not disturb a listing that goes back in time.
				if (order === ListOrder.NEWEST_FIRST) await two.events.emit({ event: { type: "n.99" } });
				pageToken = page.nextPageToken;
				if (pageToken === "") break;
				for (const changed of [{ source: "one" }, { patterns: ["n.1"] }, { order: 3 - order }]) {
					expect(await failureOf(one.events.listEvents({ ...request, ...changed, pageToken }))).toMatchObject({
						code: "InvalidArgument",
						reason: "INVALID_PAGE_TOKEN",
						fields: ["page_token"],
					});
				}
			} while (pageToken !== "");
			expect(seen).toEqual(order === ListOrder.OLDEST_FIRST ? all : all.toReversed());
		}
	});

	it("is read by those that may replay it, and by operators", async () => {
		await using hub = await start();
		const [writer, reader] = [await hub.enrol("writer"), await hub.enrol("reader", { replay: ["n.a"] })];
		await writer.events.emit({ event: { type: "n.a" } });
		await writer.events.emit({ event: { type: "n.b" } });
		expect((await reader.events.listEvents({ patterns: ["n.a"] })).events).toHaveLength(1);
		expect(await failureOf(reader.events.listEvents({ patterns: ["n.*"] }))).toMatchObject({
			code: "PermissionDenied",
			reason: "INSUFFICIENT_PERMISSIONS",
			metadata: { pattern: "n.*", grant: "replay" },
		});
		expect((await hub.operator.events.listEvents({ patterns: ["n.*"] })).events).toHaveLength(2);
	});

	it("ends a page early where events are large, and loses none", async () => {
		await using hub = await start();
		const plugin = await hub.enrol("plugin");
		const payload = { body: { case: "binary", value: new Uint8Array(400_000) } } as const;
		for (let index = 0; index < 7; index++)
			await plugin.events.emit({ event: { type: "n.n", subject: `${index}`, payload } });
		const seen: string[] = [];
		let pages = 0;
		for (let pageToken = "", more = true; more; more = pageToken !== "") {
			const page = await plugin.events.listEvents({ patterns: ["n.n"], pageSize: 1000, pageToken });
			expect(page.events.length).toBeLessThan(4);
			seen.push(...page.events.map(({ subject }) => subject));
			pageToken = page.nextPageToken;
			pages++;
		}
		expect(seen).toEqual(["0", "1", "2", "3", "4", "5", "6"]);
		expect(pages).toBeGreaterThan(2);
	});
});

describeHubs("open subscriptions", (start) => {
	it("are listed to their plugin, and to operators", async () => {
		await using hub = await start();
		const [one, two] = [await hub.enrol("one"), await hub.enrol("two")];
		const options = {
			patterns: ["a.*", "b:c"],
			filter: "event.id != ''",
			priority: 7,
			limit: 9,
			idleTimeout: { seconds: 60n, nanos: 0 },
		};
		const feeds = [
			new Feed(one.events.subscribe(options)),
			...Array.from({ length: 3 }, () => new Feed(two.events.subscribe({ patterns: ["x"] }))),
			new Feed(hub.operator.events.subscribe({ patterns: ["**"] })),
		];
		const ids = await Promise.all(feeds.map(async (feed) => (await feed.first("ready")).id));
		await Promise.all(feeds.map((feed) => feed.first("caughtUp")));
		await one.events.emit({ event: { type: "a.a" } });
		await feeds[0]!.first("batch");

		const own = await one.events.listSubscriptions({});
		expect(own).toMatchObject({ nextPageToken: "" });
		expect(own.subscriptions).toMatchObject([
			{ id: ids[0], pluginId: "one", ...options, live: true, delivered: 1n, lag: 0n, filterErrors: 0n },
		]);
		expect(Math.abs(timestampMs(own.subscriptions[0]!.createTime!) - Date.now())).toBeLessThan(60_000);
		expect((await one.events.listSubscriptions({ pluginId: "one" })).subscriptions).toHaveLength(1);
		expect(await failureOf(one.events.listSubscriptions({ pluginId: "two" }))).toMatchObject({
			code: "PermissionDenied",
			reason: "CALLER_NOT_ALLOWED",
			fields: ["plugin_id"],
		});
		const listed = await hub.operator.events.listSubscriptions({});
		expect(listed.subscriptions.map(({ id }) => id)).toEqual(ids.toSorted());
		expect((await hub.operator.events.listSubscriptions({ pluginId: "two" })).subscriptions).toHaveLength(3);

		const paged: string[] = [];
		let pageToken = "";
		do {
			const page = await hub.operator.events.listSubscriptions({ pageSize: 2, pageToken });
			paged.push(...page.subscriptions.map(({ id }) => id));
			pageToken = page.nextPageToken;
		} while (pageToken !== "");
		expect(paged).toEqual(ids.toSorted());

		// Ending the stream is all that unsubscribing takes.
		two[Symbol.dispose]();
		await until(async () => (await hub.operator.events.listSubscriptions({})).subscriptions.length === 2);
	});
});
