import { toJson } from "@bufbuild/protobuf";
import type { ConnectError } from "@connectrpc/connect";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { DeadEventSchema } from "#gen/qirvo/hub/v1/dead_event_pb.js";
import { EventSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import type { DeadLetter } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { Consumer } from "../harness/consumer.ts";
import { type Clients, describeHubs, manifestOf, reasonOf, TestHub, until } from "../harness/hub.ts";

const terminate = (reason: string) =>
	({ case: "terminate", value: { $typeName: "qirvo.hub.v1.Termination", reason } }) as const;

async function letters(clients: Clients, origin = "", pluginId = ""): Promise<DeadLetter[]> {
	return (await clients.messaging.listDeadLetters({ origin, pluginId })).deadLetters;
}

async function refusal(work: Promise<unknown>): Promise<string | undefined> {
	const error = await work.then(
		() => undefined,
		(thrown: ConnectError) => thrown,
	);
	return error && reasonOf(error);
}

const event = (subject: string) => ({
	type: "a.b",
	subject,
	attributes: { colour: "red" },
	orderingKey: `key-${subject}`,
	payload: { body: { case: "json" as const, value: `{"n":"${subject}"}` } },
});

/** Emits events and gives them up, in this order. */
async function bury(publisher: Clients, reader: Clients, subjects: readonly string[], name = "mine"): Promise<void> {
	const consumer = new Consumer(reader, name);
	for (const subject of subjects) {
		await publisher.events.emit({ event: event(subject) });
		await until(() => consumer.subjects.includes(subject));
		consumer.settle(
			consumer.deliveries.filter((delivery) => delivery.event!.subject === subject),
			terminate(`${subject} is broken`),
		);
		await until(() => consumer.settled.length === subjects.indexOf(subject) + 1);
	}
	await consumer.finish();
}

describeHubs("events as dead letters", (start) => {
	let hub: TestHub;
	let publisher: Clients;
	let reader: Clients;

	beforeEach(async () => {
		hub = await start();
		publisher = await hub.enrol("publisher");
		reader = await hub.enrol("reader");
		await reader.events.createDurableSubscription({ subscription: { name: "mine", patterns: ["a.*"] } });
	});

	afterEach(async () => {
		await hub[Symbol.asyncDispose]();
	});

	test("are listed with their origin and without their payload, and shown whole", async () => {
		await bury(publisher, reader, ["1", "2"]);
		const listed = await letters(reader);
		expect(listed).toMatchObject([
			{ pluginId: "reader", origin: "subscription/mine", reason: "terminated: 1 is broken" },
			{ pluginId: "reader", origin: "subscription/mine", reason: "terminated: 2 is broken" },
		]);
		expect(listed[0]!.time).toBeDefined();
		expect(listed[0]!.bytes).toBeGreaterThan(50n);
		for (const { event, message } of listed) expect([event!.payload, message]).toEqual([undefined, undefined]);
		const { deadLetter } = await hub.operator.messaging.getDeadLetter({ pluginId: "reader", id: listed[0]!.id });
		const { events, epoch } = await reader.events.listEvents({ patterns: ["a.b"] });
		const [first] = events;
		const shown = toJson(DeadEventSchema, deadLetter!.event!) as object;
		expect(shown).toEqual({
			...(toJson(EventSchema, first!) as object),
			epoch,
			subscription: "mine",
			attempts: 1,
			...(deadLetter!.event!.isReplay && { isReplay: true }),
		});
		expect(deadLetter!.event).toMatchObject({ ...event("1"), source: "publisher", sequence: first!.sequence });
	});

	test("go back to their own subscription only, once, as events that were never delivered", async () => {
		await reader.events.createDurableSubscription({ subscription: { name: "other", patterns: ["a.*"] } });
		await bury(publisher, reader, ["1", "2"]);
		const [first, second] = await letters(reader);
		const mine = new Consumer(reader, "mine");
		const other = new Consumer(reader, "other");
		await until(() => mine.has("caughtUp") && other.deliveries.length === 2);
		const twice = await Promise.all(
			[1, 2].map(() => reader.messaging.redriveDeadLetters({ ids: [first!.id, second!.id] })),
		);
		const redriven = twice.flatMap(({ ids }) => ids);
		expect(redriven.sort()).toEqual([first!.id, second!.id].sort());
		expect(twice.flatMap(({ failures }) => failures.map(({ error }) => error!.reason))).toEqual(
			Array(2).fill("DEAD_LETTER_NOT_FOUND"),
		);
		await until(() => mine.deliveries.length === 2);
		expect(mine.deliveries.map(({ attempt, event }) => [attempt, event!.subject])).toEqual([
			[1, "1"],
			[1, "2"],
		]);
		expect(await letters(reader)).toEqual([]);
		mine.settle(mine.deliveries);
		await until(() => mine.settled.length === 2);
		await publisher.events.emit({ event: event("3") });
		await until(() => mine.deliveries.length === 3 && other.deliveries.length === 3);
		expect(mine.subjects).toEqual(["1", "2", "3"]);
		expect(other.subjects).toEqual(["1", "2", "3"]);
		await mine.leave();
		await other.leave();
	});

	test("are beside messages, and can be picked by their origin", async () => {
		await bury(publisher, reader, ["1"]);
		await publisher.messaging.send({
			to: { target: { case: "pluginId", value: "reader" } },
			message: { type: "note", payload: { body: { case: "json", value: "1" } } },
		});
		const abort = new AbortController();
		const frames = reader.messaging.receive({}, { signal: abort.signal })[Symbol.asyncIterator]();
		const ready = (await frames.next()).value!.frame;
		const batch = (await frames.next()).value!.frame;
		if (ready.case !== "ready" || batch.case !== "batch") throw new Error("no delivery");
		const { deliveryId } = batch.value.deliveries[0]!;
		await reader.messaging.acknowledge({
			sessionId: ready.value.id,
			deliveries: [{ deliveryId, outcome: terminate("unreadable") }],
		});
		abort.abort();
		await expect(frames.next()).rejects.toThrow();
		await bury(publisher, reader, ["2"]);
		const kinds = (list: DeadLetter[]) => list.map(({ origin, message }) => [origin, message?.type]);
		const fromEvents = ["subscription/mine", undefined];
		expect(kinds(await letters(reader))).toEqual([fromEvents, ["mailbox", "note"], fromEvents]);
		expect(kinds(await letters(reader, "mailbox"))).toEqual([["mailbox", "note"]]);
		expect(kinds(await letters(hub.operator, "subscription/mine"))).toEqual([fromEvents, fromEvents]);
		const messages = await reader.messaging.redriveDeadLetters({ all: true, origin: "mailbox" });
		expect(messages).toMatchObject({ ids: [expect.any(String)], failures: [], more: false });
		expect(kinds(await letters(reader))).toEqual([fromEvents, fromEvents]);
		const events = await reader.messaging.redriveDeadLetters({ all: true });
		expect(events.ids.length).toBe(2);
		expect((await reader.events.getDurableSubscription({ name: "mine" })).subscription!.status).toMatchObject({
			waiting: 2,
			lag: 2n,
			dead: 2n,
		});
	});

	test("are deleted, one by one and all of an origin", async () => {
		await bury(publisher, reader, ["1", "2", "3"]);
		const [first, ...rest] = await letters(reader);
		expect((await reader.messaging.deleteDeadLetters({ ids: [first!.id] })).ids).toEqual([first!.id]);
		const none = await reader.messaging.deleteDeadLetters({ all: true, origin: "mailbox" });
		expect(none).toMatchObject({ ids: [], more: false });
		const all = await reader.messaging.deleteDeadLetters({ all: true, origin: "subscription/mine" });
		expect(all).toMatchObject({ ids: rest.map(({ id }) => id), more: false });
		expect(await letters(reader)).toEqual([]);
	});

	test("are for their plugin and operators only", async () => {
		await bury(publisher, reader, ["1"]);
		const [{ id } = { id: "" }] = await letters(reader);
		expect(await letters(publisher)).toEqual([]);
		expect(await refusal(publisher.messaging.getDeadLetter({ id }))).toBe("DEAD_LETTER_NOT_FOUND");
		expect(await refusal(publisher.messaging.getDeadLetter({ pluginId: "reader", id }))).toBe("CALLER_NOT_ALLOWED");
		const other = await publisher.messaging.redriveDeadLetters({ ids: [id] });
		expect(other.failures.map(({ error }) => error!.reason)).toEqual(["DEAD_LETTER_NOT_FOUND"]);
		expect((await letters(hub.operator)).map((letter) => letter.id)).toEqual([id]);
		const redriven = await hub.operator.messaging.redriveDeadLetters({ pluginId: "reader", all: true });
		expect(redriven).toMatchObject({ ids: [id], failures: [], more: false });
	});

	test("stay when their subscription is deleted, and go with their plugin", async () => {
		await bury(publisher, reader, ["1"]);
		await reader.events.deleteDurableSubscription({ name: "mine" });
		const [letter] = await letters(reader);
		expect((await reader.messaging.getDeadLetter({ id: letter!.id })).deadLetter!.event!.subject).toBe("1");
		const refused = await reader.messaging.redriveDeadLetters({ all: true });
		expect(refused.failures.map(({ error }) => error!.reason)).toEqual(["SUBSCRIPTION_NOT_FOUND"]);
		expect(refused.ids).toEqual([]);
		await reader.events.createDurableSubscription({ subscription: { name: "mine", patterns: ["a.*"] } });
		const again = await reader.messaging.redriveDeadLetters({ all: true });
		expect(again.failures.map(({ error }) => error!.reason)).toEqual(["SUBSCRIPTION_NOT_FOUND"]);
		await reader.plugins.unregister({});
		await until(async () => (await letters(hub.operator)).length === 0);
		await reader.plugins.register({ manifestJson: manifestOf("reader") });
		expect(await letters(reader)).toEqual([]);
	});

	test("refuse a selection that is not well formed", async () => {
		const origin = "subscription/mine";
		expect(await refusal(reader.messaging.redriveDeadLetters({ ids: ["a"], origin }))).toBe("INVALID_FIELD");
		expect(await refusal(reader.messaging.deleteDeadLetters({ ids: ["a"], origin }))).toBe("INVALID_FIELD");
		expect(await refusal(reader.messaging.listDeadLetters({ origin: "x".repeat(257) }))).toBe("INVALID_FIELD");
		const page = await reader.messaging.listDeadLetters({ origin: "nothing of the kind" });
		expect(page).toMatchObject({ deadLetters: [], nextPageToken: "" });
	});

	test("count in the metrics", async () => {
		await bury(publisher, reader, ["1", "2"]);
		const response = await fetch(`${hub.url}/metrics`, { headers: { connection: "close" } });
		const text = await response.text();
		expect(text).toMatch(/^hub_dead_letters 2$/m);
		expect(text).toMatch(/^hub_dead_letters_total 2$/m);
		expect(text).toMatch(/^hub_durable_dead_total 2$/m);
	});
});

describe("events as dead letters over a restart", () => {
	test("stay, and what was put back is due", async () => {
		const first = await TestHub.start({ options: { state: "embedded" } });
		const { directory } = first;
		const reader = await first.enrol("reader");
		const publisher = await first.enrol("publisher");
		await reader.events.createDurableSubscription({ subscription: { name: "mine", patterns: ["a.*"] } });
		await bury(publisher, reader, ["1", "2"]);
		const before = await letters(reader);
		await reader.messaging.redriveDeadLetters({ ids: [before[0]!.id] });
		await first.running.stop();
		await using second = await TestHub.start({ options: { state: "embedded" }, directory });
		const back = second.connect(reader.token);
		expect(await letters(back)).toEqual([before[1]]);
		const consumer = new Consumer(back, "mine");
		await until(() => consumer.has("caughtUp"));
		expect(consumer.deliveries).toMatchObject([{ attempt: 1, event: event("1") }]);
		await back.messaging.redriveDeadLetters({ all: true });
		await until(() => consumer.deliveries.length === 2);
		expect(consumer.subjects).toEqual(["1", "2"]);
		await consumer.leave();
		await first[Symbol.asyncDispose]();
	});
});
