import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import type { ConnectError } from "@connectrpc/connect";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { DurableSubscriptionSchema } from "#gen/qirvo/hub/v1/durable_subscriptions_pb.js";
import { Consumer } from "../harness/consumer.ts";
import { ALL_GRANTS, type Clients, describeHubs, manifestOf, reasonOf, TestHub, until } from "../harness/hub.ts";

const everything = { from: { case: "everything" as const, value: true } };

async function refusal(work: Promise<unknown>): Promise<string | undefined> {
	const error = await work.then(
		() => undefined,
		(thrown: ConnectError) => thrown,
	);
	return error && reasonOf(error);
}

async function emit(clients: Clients, subjects: readonly (string | number)[], orderingKey = ""): Promise<void> {
	for (const subject of subjects)
		await clients.events.emit({ event: { type: "a.b", subject: `${subject}`, orderingKey } });
}

describeHubs("durable subscriptions", (start) => {
	let hub: TestHub;
	let publisher: Clients;
	let reader: Clients;

	beforeEach(async () => {
		hub = await start();
		publisher = await hub.enrol("publisher");
		reader = await hub.enrol("reader");
	});

	afterEach(async () => {
		await hub[Symbol.asyncDispose]();
	});

	const createMine = (more: MessageInitShape<typeof DurableSubscriptionSchema> = {}, clients = reader) =>
		clients.events.createDurableSubscription({ subscription: { name: "mine", patterns: ["a.*"], ...more } });
	const statusOf = async (name = "mine") =>
		(await reader.events.getDurableSubscription({ name })).subscription!.status!;

	test("delivers, confirms and goes on behind what was acknowledged", async () => {
		await emit(publisher, ["before"]);
		const { subscription } = await createMine();
		expect(subscription).toMatchObject({ pluginId: "reader", maxDeliveries: 5, maxInFlight: 1000 });
		await emit(publisher, [1, 2, 3]);
		const first = new Consumer(reader, "mine");
		await until(() => first.deliveries.length === 3 && first.has("caughtUp"));
		expect(first.subjects).toEqual(["1", "2", "3"]);
		expect(await statusOf()).toMatchObject({ inFlight: 3, lag: 3n, sessions: 1 });
		first.settle([first.deliveries[0]!, first.deliveries[2]!]);
		await until(() => first.settled.length === 2);
		await first.leave();
		await until(async () => (await statusOf()).sessions === 0);
		expect(await statusOf()).toMatchObject({ lag: 1n, acknowledged: 2n, delivered: 3n });
		const second = new Consumer(reader, "mine");
		await until(() => second.has("caughtUp"));
		expect(second.deliveries).toMatchObject([{ attempt: 2, event: { subject: "2", source: "publisher" } }]);
		second.settle(second.deliveries);
		await emit(publisher, [4]);
		await until(() => second.deliveries.length === 2 && second.settled.length === 1);
		expect(await second.finish()).toBeUndefined();
	});

	test("starts where it is told, and again where it is reset", async () => {
		await emit(publisher, [1, 2]);
		const { subscription } = await createMine({ start: everything });
		const first = new Consumer(reader, "mine");
		await until(() => first.deliveries.length === 2);
		expect(first.deliveries[0]!.event!.isReplay).toBe(true);
		first.settle(first.deliveries);
		await until(() => first.settled.length === 2);
		const { revision } = subscription!;
		const expected = { state: { case: "revision" as const, value: revision + 100n } };
		const reset = { name: "mine", start: everything };
		expect(await refusal(reader.events.resetDurableSubscription({ ...reset, expected }))).toBe("REVISION_MISMATCH");
		const again = await reader.events.resetDurableSubscription({
			...reset,
			expected: { state: { case: "revision", value: revision } },
			requestId: "once",
		});
		expect(again.subscription!.revision).toBeGreaterThan(revision);
		const repeat = await reader.events.resetDurableSubscription({
			...reset,
			expected: { state: { case: "revision", value: revision } },
			requestId: "once",
		});
		expect(repeat).toMatchObject({ duplicate: true, subscription: { revision: again.subscription!.revision } });
		expect(reasonOf((await first.done)!)).toBe("SUBSCRIPTION_RESET");
		const second = new Consumer(reader, "mine");
		await until(() => second.deliveries.length === 2);
		expect(second.deliveries.map(({ attempt }) => attempt)).toEqual([1, 1]);
		await second.leave();
	});

	test("delivers again after a negative acknowledgement, and gives up what is never acknowledged", async () => {
		await createMine({ maxDeliveries: 2 });
		const consumer = new Consumer(reader, "mine");
		await emit(publisher, ["poison", "bad", "good"]);
		await until(() => consumer.deliveries.length === 3);
		const [poison, bad, good] = consumer.deliveries;
		consumer.settle([poison!], { case: "negative", value: { $typeName: "qirvo.hub.v1.NegativeAcknowledgement" } });
		consumer.settle([bad!], { case: "terminate", value: { $typeName: "qirvo.hub.v1.Termination", reason: "broken" } });
		consumer.settle([good!]);
		await until(() => consumer.deliveries.length === 4);
		expect(consumer.deliveries[3]).toMatchObject({ attempt: 2, event: { subject: "poison" } });
		consumer.settle([consumer.deliveries[3]!], {
			case: "negative",
			value: { $typeName: "qirvo.hub.v1.NegativeAcknowledgement" },
		});
		await until(async () => (await statusOf()).dead === 2n);
		await until(() => consumer.settled.length === 2);
		expect(await statusOf()).toMatchObject({ lag: 0n, inFlight: 0, redelivered: 1n, acknowledged: 1n });
		consumer.settle([good!]);
		await until(() => consumer.has("failures"));
		const failures = consumer.frames.find((frame) => frame.case === "failures")!;
		expect(failures.value).toMatchObject({ failures: [{ error: { reason: "DELIVERY_NOT_FOUND" } }] });
		await consumer.leave();
	});

	test("keeps the order of a key over all that compete, one at a time", async () => {
		await createMine({ start: everything });
		for (let n = 0; n < 20; n++) await emit(publisher, [n], `k${n % 2}`);
		const consumers = [new Consumer(reader, "mine", 4), new Consumer(reader, "mine", 4)];
		const seen: string[][] = [[], []];
		await until(() => {
			for (const consumer of consumers) {
				const fresh = consumer.deliveries.slice(consumer.settledByTest);
				expect(new Set(fresh.map(({ event }) => event!.orderingKey)).size).toBe(fresh.length);
				for (const { event } of fresh) seen[Number(event!.orderingKey[1])]!.push(event!.subject);
				if (fresh.length > 0) consumer.settle(fresh);
				consumer.settledByTest += fresh.length;
			}
			return seen[0]!.length + seen[1]!.length === 20;
		});
		const order = (key: number) => Array.from({ length: 10 }, (_, n) => `${n * 2 + key}`);
		expect(seen).toEqual([order(0), order(1)]);
		for (const consumer of consumers) await consumer.finish();
	});

	test("keeps to credits", async () => {
		await createMine({ maxInFlight: 3 });
		await emit(publisher, [1, 2, 3, 4, 5]);
		const consumer = new Consumer(reader, "mine", 2);
		await until(() => consumer.deliveries.length === 2);
		consumer.credit(10);
		await until(() => consumer.deliveries.length === 3);
		expect(await statusOf()).toMatchObject({ inFlight: 3, waiting: 2 });
		consumer.settle(consumer.deliveries);
		await until(() => consumer.deliveries.length === 5);
		await consumer.leave();
	});

	test("serves peers that cannot stream up", async () => {
		await createMine();
		await emit(publisher, [1, 2]);
		const abort = new AbortController();
		const stream = reader.events.receiveEvents({ name: "mine", maxInFlight: 1 }, { signal: abort.signal });
		const frames = stream[Symbol.asyncIterator]();
		const ready = (await frames.next()).value!.frame;
		if (ready.case !== "ready") throw new Error("not ready");
		const sessionId = ready.value.id;
		const batch = (await frames.next()).value!.frame;
		if (batch.case !== "batch") throw new Error("no batch");
		const deliveryId = batch.value.deliveries[0]!.deliveryId;
		const outcome = { case: "acknowledge" as const, value: true };
		const answer = await reader.events.acknowledgeEvents({
			sessionId,
			deliveries: [
				{ deliveryId, outcome },
				{ deliveryId: "x", outcome },
			],
		});
		expect(answer.failures).toMatchObject([{ deliveryId: "x", error: { reason: "DELIVERY_NOT_FOUND" } }]);
		expect((await statusOf()).acknowledged).toBe(1n);
		expect((await frames.next()).value!.frame).toMatchObject({ value: { deliveries: [{ event: { subject: "2" } }] } });
		const other = await hub.enrol("other");
		expect(await refusal(other.events.acknowledgeEvents({ sessionId }))).toBe("SESSION_NOT_FOUND");
		abort.abort();
		await expect(frames.next()).rejects.toThrow();
	});

	test("refuses what is not granted, not there or not well formed", async () => {
		const limited = await hub.enrol("limited", { ...ALL_GRANTS, subscribe: ["a.b"], replay: [] });
		expect(await refusal(createMine({}, limited))).toBe("INSUFFICIENT_PERMISSIONS");
		expect(await refusal(createMine({ patterns: ["a.b"], start: everything }, limited))).toBe(
			"INSUFFICIENT_PERMISSIONS",
		);
		await createMine({ patterns: ["a.b"] }, limited);
		const reset = limited.events.resetDurableSubscription({ name: "mine", start: everything });
		expect(await refusal(reset)).toBe("INSUFFICIENT_PERMISSIONS");
		expect(await refusal(createMine({ patterns: ["a.b"] }, limited))).toBe("SUBSCRIPTION_EXISTS");
		expect(await refusal(createMine({ name: "A" }))).toBe("INVALID_FIELD");
		expect(await refusal(createMine({ filter: "nonsense(" }))).toBe("INVALID_FILTER");
		expect(await refusal(createMine({ ackWait: durationFromMs(1) }))).toBe("INVALID_FIELD");
		expect(await refusal(reader.events.getDurableSubscription({ name: "mine" }))).toBe("SUBSCRIPTION_NOT_FOUND");
		expect(reasonOf((await new Consumer(reader, "mine").done)!)).toBe("SUBSCRIPTION_NOT_FOUND");
		expect(await refusal(reader.events.getDurableSubscription({ name: "mine", pluginId: "limited" }))).toBe(
			"CALLER_NOT_ALLOWED",
		);
		expect(await refusal(createMine({}, hub.operator))).toBe("CALLER_NOT_ALLOWED");
	});

	test("ends sessions with the grant, the subscription and the registration", async () => {
		await createMine();
		const revoked = new Consumer(reader, "mine");
		await until(() => revoked.has("caughtUp"));
		const grant = (subscribe: string[]) =>
			hub.operator.admin.setPermissions({ pluginId: "reader", permissions: { ...ALL_GRANTS, subscribe } });
		await grant(["b"]);
		expect(reasonOf((await revoked.done)!)).toBe("PERMISSION_REVOKED");
		expect(revoked.has("revoked")).toBe(true);
		expect(reasonOf((await new Consumer(reader, "mine").done)!)).toBe("INSUFFICIENT_PERMISSIONS");
		await grant(["**"]);
		const deleted = new Consumer(reader, "mine");
		await until(() => deleted.has("caughtUp"));
		expect(await reader.events.deleteDurableSubscription({ name: "mine", requestId: "r" })).toMatchObject({
			duplicate: false,
		});
		expect(reasonOf((await deleted.done)!)).toBe("SUBSCRIPTION_NOT_FOUND");
		expect(await reader.events.deleteDurableSubscription({ name: "mine", requestId: "r" })).toMatchObject({
			duplicate: true,
		});
		await createMine();
		const gone = new Consumer(reader, "mine");
		await until(() => gone.has("caughtUp"));
		await reader.plugins.unregister({});
		expect(["PERMISSION_REVOKED", "SUBSCRIPTION_NOT_FOUND"]).toContain(reasonOf((await gone.done)!));
		const all = () => hub.operator.events.listDurableSubscriptions({});
		await until(async () => (await all()).subscriptions.length === 0);
	});

	test("shows a plugin its own and an operator all, page by page", async () => {
		const other = await hub.enrol("other");
		for (const name of ["b", "a", "c"]) await createMine({ name });
		await createMine({ name: "z" }, other);
		const own = await reader.events.listDurableSubscriptions({ pageSize: 2 });
		expect(own.subscriptions.map(({ name }) => name)).toEqual(["a", "b"]);
		const rest = await reader.events.listDurableSubscriptions({ pageToken: own.nextPageToken });
		expect(rest).toMatchObject({ subscriptions: [{ name: "c" }], nextPageToken: "" });
		const all = await hub.operator.events.listDurableSubscriptions({});
		expect(all.subscriptions.map(({ pluginId, name }) => `${pluginId}/${name}`)).toEqual([
			"other/z",
			"reader/a",
			"reader/b",
			"reader/c",
		]);
		expect((await reader.hub.getHubInfo({})).features?.durableSubscriptions).toBe(true);
	});

	test("tells consumers that the hub stops", async () => {
		await createMine();
		const consumer = new Consumer(reader, "mine");
		await until(() => consumer.has("caughtUp"));
		await hub.running.stop();
		expect(reasonOf((await consumer.done)!)).toBe("HUB_DRAINING");
		expect(consumer.has("draining")).toBe(true);
	});
});

describe("durable subscriptions over a restart", () => {
	test("go on where they were, and are gone with a registration", async () => {
		const first = await TestHub.start({ options: { state: "embedded" } });
		const { directory } = first;
		const reader = await first.enrol("reader");
		const publisher = await first.enrol("publisher");
		const subscription = { name: "mine", patterns: ["a.*"] };
		await reader.events.createDurableSubscription({ subscription });
		await emit(publisher, [1, 2, 3]);
		const consumer = new Consumer(reader, "mine");
		await until(() => consumer.deliveries.length === 3);
		consumer.settle([consumer.deliveries[1]!]);
		await until(() => consumer.settled.length === 1);
		await first.running.stop();
		await using second = await TestHub.start({ options: { state: "embedded" }, directory });
		const back = second.connect(reader.token);
		const after = new Consumer(back, "mine");
		await until(() => after.has("caughtUp"));
		expect(after.subjects).toEqual(["1", "3"]);
		await after.leave();
		await back.plugins.unregister({});
		const again = second.connect(
			(await second.operator.admin.issueCredential({ principal: { case: "pluginId", value: "reader" } })).token,
		);
		await again.plugins.register({ manifestJson: manifestOf("reader") });
		expect(await refusal(again.events.getDurableSubscription({ name: "mine" }))).toBe("SUBSCRIPTION_NOT_FOUND");
		await first[Symbol.asyncDispose]();
	});
});
