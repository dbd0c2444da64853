import type { MessageInitShape } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import {
	FailureMode,
	type InterceptRequestSchema,
	type InterceptResponse,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { Consumer } from "../harness/consumer.ts";
import { failureOf } from "../harness/failure.ts";
import { Feed } from "../harness/feed.ts";
import { ALL_GRANTS, type Clients, describeHubs, type TestHub, until } from "../harness/hub.ts";
import { Outbox } from "../harness/outbox.ts";

type Up = MessageInitShape<typeof InterceptRequestSchema>;

/** Makes a durable subscription `mine` of the plugin, and so many dead letters in it. */
async function bury(reader: Clients, publisher: Clients, count: number): Promise<void> {
	await reader.events.createDurableSubscription({ subscription: { name: "mine", patterns: ["a.*"] } });
	const consumer = new Consumer(reader, "mine");
	for (let sent = 0; sent < count; sent++) await publisher.events.emit({ event: { type: "a.b", subject: `${sent}` } });
	await until(() => consumer.deliveries.length === count);
	consumer.settle(consumer.deliveries, {
		case: "terminate",
		value: { $typeName: "qirvo.hub.v1.Termination", reason: "broken" },
	});
	await until(() => consumer.settled.length === count);
	await consumer.finish();
}

/** What the log of changes has of these, as text. */
async function decisions(hub: TestHub, prefix: string): Promise<string[]> {
	const records = (await hub.recorded("changes")).filter(({ event }) => event.startsWith(prefix));
	return records.map(({ event, actor, target, details, requestId }) => {
		expect(requestId).not.toBe("");
		const { count, start, name } = details ?? {};
		return [event, actor, target, name ?? count, start].filter((word) => word !== undefined).join(" ");
	});
}

describeHubs("an operator's decision", (start) => {
	it("about a plugin's dead letters is recorded once it is stored, and a plugin's own is not", async () => {
		await using hub = await start({ readsAudit: true });
		const [reader, publisher] = [await hub.enrol("reader"), await hub.enrol("publisher")];
		await bury(reader, publisher, 4);
		const { messaging } = hub.operator;
		const { deadLetters } = await reader.messaging.listDeadLetters({});
		const [first, second, third] = deadLetters.map(({ id }) => id);
		await messaging.redriveDeadLetters({ pluginId: "reader", ids: [first!, second!, "none"] });
		await messaging.redriveDeadLetters({ pluginId: "reader", ids: ["none"] });
		await reader.messaging.deleteDeadLetters({ ids: [third!] });
		await messaging.deleteDeadLetters({ pluginId: "reader", all: true, origin: "subscription/mine" });
		expect(await decisions(hub, "dead_letters_")).toEqual([
			"dead_letters_redriven operator:root plugin:reader 2",
			"dead_letters_deleted operator:root plugin:reader 1",
		]);
		const [redriven, deleted] = (await hub.recorded("changes")).filter(({ event }) => event.startsWith("dead_"));
		expect(redriven!.details).toMatchObject({ ids: `${first},${second}`, origin: "" });
		expect(deleted!.details).toMatchObject({ ids: deadLetters[3]!.id, origin: "subscription/mine" });
	});

	it("about a plugin's durable subscription is recorded with it, once, and a plugin's own is not", async () => {
		await using hub = await start({ readsAudit: true });
		const reader = await hub.enrol("reader");
		const own = (name: string) =>
			reader.events.createDurableSubscription({ subscription: { name, patterns: ["a.*"] } });
		await own("mine");
		await own("other");
		const { events } = hub.operator;
		const from = { from: { case: "everything", value: true } } as const;
		const reset = { pluginId: "reader", name: "mine", start: from, requestId: "r-1" };
		expect(await events.resetDurableSubscription(reset)).toMatchObject({ duplicate: false });
		expect(await events.resetDurableSubscription(reset)).toMatchObject({ duplicate: true });
		await reader.events.resetDurableSubscription({ name: "mine", start: from });
		const gone = { pluginId: "reader", name: "none" };
		expect(await failureOf(events.deleteDurableSubscription(gone))).toMatchObject({ reason: "SUBSCRIPTION_NOT_FOUND" });
		const remove = { pluginId: "reader", name: "mine", requestId: "d-1" };
		expect(await events.deleteDurableSubscription(remove)).toMatchObject({ duplicate: false });
		expect(await events.deleteDurableSubscription(remove)).toMatchObject({ duplicate: true });
		await reader.events.deleteDurableSubscription({ name: "other" });
		expect(await decisions(hub, "durable_")).toEqual([
			"durable_subscription_reset operator:root plugin:reader mine everything",
			"durable_subscription_deleted operator:root plugin:reader mine",
		]);
	});
});

describeHubs("an interceptor", (start) => {
	it("is recorded when it opens, and when its place is free again", async () => {
		await using hub = await start({ readsAudit: true });
		const judge = await hub.enrol("judge");
		await hub.operator.admin.setTrustLevel({ pluginId: "judge", trustLevel: 3 });
		await hub.operator.admin.setPermissions({ pluginId: "judge", permissions: { ...ALL_GRANTS, intercept: true } });
		const open = async (name: string, failureMode: FailureMode) => {
			const value = { name, types: ["a.*"], failureMode };
			const up = new Outbox<Up>({ frame: { case: "open", value } } as Up);
			const controller = new AbortController();
			const down = new Feed<InterceptResponse>(judge.messaging.intercept(up, { signal: controller.signal }));
			await down.first("ready");
			return { up, down, crash: () => controller.abort() };
		};
		const closed = await open("strict", FailureMode.CLOSED);
		closed.crash();
		const again = await open("strict", FailureMode.CLOSED);
		again.up.push({ frame: { case: "withdraw", value: {} } });
		const lenient = await open("lenient", FailureMode.OPEN);
		lenient.crash();
		const seen = async () => {
			const records = (await hub.recorded("denials")).filter(({ event }) => event.startsWith("interceptor_"));
			return records.map(({ event, actor, target, reason, details }) =>
				[event, actor, target, reason ?? `${details?.types} ${details?.on_failure}`].join(" "),
			);
		};
		await until(async () => (await seen()).length === 5);
		expect((await seen()).toSorted()).toEqual([
			"interceptor_closed plugin:judge interceptor:judge/lenient stream_ended",
			"interceptor_closed plugin:judge interceptor:judge/strict withdrawn",
			"interceptor_opened plugin:judge interceptor:judge/lenient a.* open",
			"interceptor_opened plugin:judge interceptor:judge/strict a.* closed",
			"interceptor_opened plugin:judge interceptor:judge/strict a.* closed",
		]);
	});

	it("has one of 16 places of its plugin, which are free again once it loses the grant or is unregistered", async () => {
		await using hub = await start({ readsAudit: true });
		const { admin } = hub.operator;
		const enter = async (pluginId: string) => {
			const clients = await hub.enrol(pluginId);
			await admin.setTrustLevel({ pluginId, trustLevel: 3 });
			await admin.setPermissions({ pluginId, permissions: { ...ALL_GRANTS, intercept: true } });
			return clients;
		};
		const open = async (clients: Clients, name: string) => {
			const value = { name, types: ["a.*"], failureMode: FailureMode.CLOSED };
			const up = new Outbox<Up>({ frame: { case: "open", value } } as Up);
			const controller = new AbortController();
			const down = new Feed<InterceptResponse>(clients.messaging.intercept(up, { signal: controller.signal }));
			await Promise.race([down.first("ready"), down.ended]);
			return { down, crash: () => controller.abort() };
		};
		const freed = async (reason: string) =>
			(await hub.recorded("denials")).filter(
				(record) => record.event === "interceptor_closed" && record.reason === reason,
			).length;
		const [one, two] = [await enter("one"), await enter("two")];
		for (let place = 0; place < 16; place++) (await open(one, `n-${place}`)).crash();
		const beyond = await open(one, "beyond");
		await beyond.down.ended;
		expect(beyond.down.failure).toMatchObject({ reason: "LIMIT_EXCEEDED" });
		await open(one, "n-0");
		for (let place = 0; place < 3; place++) (await open(two, `n-${place}`)).crash();
		await open(two, "live");
		await admin.setPermissions({ pluginId: "one", permissions: ALL_GRANTS });
		await until(async () => (await freed("permission_revoked")) === 16);
		await hub.operator.plugins.unregister({ pluginId: "two" });
		await until(async () => (await freed("plugin_unregistered")) + (await freed("permission_revoked")) === 20);
		const alice = await hub.enrol("alice");
		await alice.messaging.send({ to: { target: { case: "pluginId", value: "alice" } }, message: { type: "a.b" } });
	});
});
