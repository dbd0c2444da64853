import type { MessageInitShape } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { Durability, MessageKind } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { RouteSchema } from "#gen/qirvo/hub/v1/routes_pb.js";
import { TrustLevel } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import type { FanOutResult } from "#gen/qirvo/hub/v1/topics_pb.js";
import { failureOf } from "../harness/failure.ts";
import { ALL_GRANTS, type Clients, describeHubs, type TestHub, until } from "../harness/hub.ts";
import { Inbox } from "../harness/inbox.ts";

type RouteInit = MessageInitShape<typeof RouteSchema>;

const GRANTS = { ...ALL_GRANTS, publishTopics: ["**"], subscribeTopics: ["**"], broadcast: true };
const transient = Durability.TRANSIENT;

/** A route for one recipient. */
const on = (value: string, action: RouteInit["action"], more: object = {}, priority = 0): RouteInit => ({
	priority,
	name: `on-${value}-${action!.case}`,
	match: { address: { case: "recipient", value }, ...more },
	action,
});
const redirect = (from: string, value: string) => on(from, { case: "redirect", value });
const reasonsOf = (result: FanOutResult | undefined) =>
	Object.fromEntries(result!.reasons.map(({ reason, count }) => [reason, count]));

/** A publisher, and plugins that are attached and subscribed to `t`. */
async function world(hub: TestHub, ...ids: string[]) {
	const pub = await hub.enrol("pub", GRANTS);
	const inboxes: Record<string, Inbox> = {};
	for (const id of ids) {
		const clients = await hub.enrol(id, GRANTS);
		await clients.messaging.subscribeTopic({ pattern: "t" });
		inboxes[id] = await Inbox.open(clients);
	}
	const put = async (...routes: RouteInit[]) => {
		for (const route of routes) await hub.operator.messaging.putRoute({ route });
	};
	const publish = async (id: string, more: object = {}, durability = Durability.DURABLE) =>
		(await pub.messaging.publish({ topic: "t", message: { type: "news", id, ...more }, durability })).result!;
	const broadcast = async (id: string, filter?: object) =>
		(await pub.messaging.broadcast({ event: "news", id, ...(filter && { filter }) })).result!;
	/** Waits until each plugin has exactly these, in this order. */
	const expectInboxes = async (expected: Record<string, string[]>) => {
		for (const [id, messages] of Object.entries(expected)) {
			await inboxes[id]!.came(messages.length);
			expect([id, inboxes[id]!.ids]).toEqual([id, messages]);
		}
	};
	return { inboxes, put, publish, broadcast, expectInboxes };
}

/** A plugin that is subscribed to `t`, and nobody attached for it. */
async function subscribed(hub: TestHub, id: string): Promise<Clients> {
	const clients = await hub.enrol(id, GRANTS);
	await clients.messaging.subscribeTopic({ pattern: "t" });
	return clients;
}

describeHubs("routes for a message for many", (start) => {
	it("deny, redirect and split it for one recipient, by type and sender, and touch no other", async () => {
		await using hub = await start({ readsAudit: true });
		const { inboxes, put, publish, broadcast, expectInboxes } = await world(hub, "a", "b", "c", "d");
		const extra = await hub.enrol("extra", GRANTS);
		inboxes.extra = await Inbox.open(extra);
		const deny = { case: "deny", value: { reason: "not for a" } } as const;
		const targets = [{ pluginId: "extra", weight: 1 }];
		await put(
			on("a", deny, { types: ["news"], senders: ["pub"] }),
			on("b", { case: "split", value: { targets } }, { types: ["news"] }),
			redirect("c", "a"),
		);
		const durable = await publish("p-1");
		expect(durable).toMatchObject({ delivered: 2, queued: 0, skipped: 2, merged: 0, duplicate: false });
		expect(reasonsOf(durable)).toEqual({ ROUTE_DENIED: 2 });
		expect(reasonsOf(await publish("p-2", {}, transient))).toEqual({ ROUTE_DENIED: 2 });
		const told = await broadcast("b-1");
		expect(told).toMatchObject({ delivered: 2, queued: 0, skipped: 2, merged: 1 });
		expect(reasonsOf(told)).toEqual({ ROUTE_DENIED: 2 });
		await publish("p-3", { type: "other" });
		await expectInboxes({ a: ["p-3"], b: ["p-3"], d: ["p-1", "p-2", "b-1", "p-3"], extra: ["p-1", "p-2", "b-1"] });
		expect(inboxes.extra!.messages[0]).toMatchObject({
			source: "pub",
			recipient: "extra",
			kind: MessageKind.PUBLICATION,
			topic: "t",
		});
		await until(async () => (await hub.recorded("denials")).length === 3);
		expect(await hub.recorded("denials")).toMatchObject([
			{
				event: "message_denied",
				actor: "plugin:pub",
				target: "topic:t",
				reason: "route_denied",
				details: { recipients: "2", first_recipient: "a", message: "not for a" },
			},
			{ target: "topic:t", reason: "route_denied" },
			{ target: "broadcast:news", reason: "route_denied" },
		]);
	});

	it("give a plugin that several recipients lead to one copy, and count the others as merged", async () => {
		await using hub = await start();
		const { inboxes, put, publish, broadcast, expectInboxes } = await world(hub, "a", "b", "c");
		inboxes.log = await Inbox.open(await hub.enrol("log", GRANTS));
		await put(redirect("a", "c"), redirect("b", "c"), on("b", { case: "mirror", value: "log" }, {}, 1));
		expect(await publish("p-1")).toMatchObject({ delivered: 1, queued: 0, skipped: 0, merged: 2, duplicate: false });
		expect(await publish("p-1")).toMatchObject({ delivered: 1, merged: 2, duplicate: true });
		expect(await publish("p-2", {}, transient)).toMatchObject({ delivered: 1, merged: 2 });
		expect(await broadcast("b-1", { pluginIds: ["a", "b"] })).toMatchObject({ delivered: 1, skipped: 0, merged: 1 });
		await expectInboxes({ a: [], b: [], c: ["p-1", "p-2", "b-1"], log: ["p-1", "p-2", "b-1"] });
	});

	it("send a repeat of a durable publication where they lead now, and what was stored before is known there", async () => {
		await using hub = await start();
		const { put, publish, expectInboxes } = await world(hub, "a", "b");
		expect(await publish("p-1")).toMatchObject({ delivered: 2, duplicate: false });
		const fresh = await hub.enrol("fresh", GRANTS);
		await put(redirect("a", "fresh"));
		expect(await publish("p-1")).toMatchObject({ delivered: 1, queued: 1, duplicate: true });
		const inbox = await Inbox.open(fresh);
		await inbox.came(1);
		await expectInboxes({ a: ["p-1"], b: ["p-1"] });
	});

	it("split by the key of the message: all of one go the same way, in order", async () => {
		await using hub = await start();
		const { inboxes, put, publish } = await world(hub, "a");
		inboxes.b = await Inbox.open(await hub.enrol("b", GRANTS));
		const targets = ["a", "b"].map((pluginId) => ({ pluginId, weight: 1 }));
		await put(on("a", { case: "split", value: { targets } }));
		const sent: string[] = [];
		for (const key of ["k-1", "k-2", "k-3", "k-4", "k-5", "k-6", "k-7", "k-8"]) {
			for (let count = 0; count < 3; count++) {
				sent.push(`${key}/${count}`);
				await publish(sent.at(-1)!, { orderingKey: key }, transient);
			}
		}
		await until(() => inboxes.a!.ids.length + inboxes.b!.ids.length === sent.length);
		for (const { ids } of [inboxes.a!, inboxes.b!]) {
			const keys = new Set(ids.map((id) => id.split("/")[0]));
			expect(ids).toEqual(sent.filter((id) => keys.has(id.split("/")[0]!)));
		}
	});

	it("lead to a plugin that the guard judges, never back to the sender, and not too far", async () => {
		await using hub = await start();
		const { put, publish, broadcast, expectInboxes } = await world(hub, "fine");
		for (const id of ["a", "b", "c", "d", "e"]) await subscribed(hub, id);
		await hub.enrol("deaf", { ...GRANTS, receiveFrom: ["fine"] });
		const uncovered = await hub.enrol("uncovered", { ...GRANTS, subscribeTopics: ["u"] });
		await hub.enrol("high", GRANTS);
		await hub.operator.admin.setTrustLevel({ pluginId: "high", trustLevel: TrustLevel.TRUSTED });
		await put(redirect("a", "deaf"), redirect("b", "uncovered"), redirect("c", "high"), redirect("d", "pub"));
		await put(redirect("e", "r-0"));
		for (let step = 0; step < 8; step++) await put(redirect(`r-${step}`, `r-${step + 1}`));
		const result = await publish("p-1");
		expect(result).toMatchObject({ delivered: 1, queued: 0, skipped: 5, merged: 0 });
		expect(reasonsOf(result)).toEqual({ RECIPIENT_CANNOT_RECEIVE: 2, TRUST_LEVEL_MISMATCH: 1, NO_ROUTE: 2 });
		// A broadcast needs no subscription: the plugin without one is not attached.
		const filter = { pluginIds: ["b", "d", "fine"] };
		const told = await broadcast("b-1", filter);
		expect(reasonsOf(told)).toEqual({ RECIPIENT_UNAVAILABLE: 1, NO_ROUTE: 1 });
		await expectInboxes({ fine: ["p-1", "b-1"] });
		// What the guard keeps from a plugin that routes lead to, a mirror still copies there.
		const copied = await Inbox.open(uncovered);
		await put({ name: "all", action: { case: "mirror", value: "uncovered" } });
		await publish("p-2");
		await copied.came(1);
		expect(copied.messages).toMatchObject([{ id: "p-2", attributes: { "hub-mirror": "all" } }]);
	});

	it("make one copy for each mirror, whatever the recipients, and none where the message goes anyway", async () => {
		await using hub = await start();
		const { inboxes, put, publish, broadcast, expectInboxes } = await world(hub, "a", "b", "c");
		inboxes.log = await Inbox.open(await hub.enrol("log", GRANTS));
		await put({ name: "all", action: { case: "mirror", value: "log" } });
		await put({ name: "own", action: { case: "mirror", value: "pub" } });
		await put({ name: "there", action: { case: "mirror", value: "c" } });
		await put(on("a", { case: "deny", value: {} }));
		expect(await publish("p-1")).toMatchObject({ delivered: 2, skipped: 1, merged: 0 });
		expect(await publish("p-1")).toMatchObject({ delivered: 2, duplicate: true });
		expect(await broadcast("b-1", { pluginIds: ["b"] })).toMatchObject({ delivered: 1, skipped: 0 });
		expect(await publish("p-2", {}, transient)).toMatchObject({ delivered: 2, skipped: 1 });
		await expectInboxes({ b: ["p-1", "b-1", "p-2"], c: ["p-1", "b-1", "p-2"], log: ["p-1", "b-1", "p-2"], a: [] });
		expect(inboxes.log!.messages[0]).toMatchObject({
			kind: MessageKind.PUBLICATION,
			topic: "t",
			attributes: { "hub-mirror": "all" },
		});
		expect(inboxes.c!.messages.map(({ attributes }) => attributes["hub-mirror"])).toEqual([
			undefined,
			"there",
			undefined,
		]);
		await hub.operator.plugins.disable({ pluginId: "b" });
		await hub.operator.plugins.disable({ pluginId: "c" });
		expect(await publish("p-3")).toMatchObject({ delivered: 0, skipped: 3 });
		await expectInboxes({ log: ["p-1", "b-1", "p-2"] });
	});

	it("record what they deny of a publication whose id then turns out to be taken", async () => {
		await using hub = await start({ readsAudit: true });
		const { put, publish } = await world(hub, "a", "b");
		await publish("p-1", { attributes: { first: "yes" } });
		await put(on("a", { case: "deny", value: { reason: "not for a" } }));
		expect(await failureOf(publish("p-1"))).toMatchObject({ reason: "ID_REUSED" });
		await until(async () => (await hub.recorded("denials")).length === 1);
		expect(await hub.recorded("denials")).toMatchObject([{ target: "topic:t", reason: "route_denied" }]);
	});
});
