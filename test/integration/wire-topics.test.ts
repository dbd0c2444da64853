import type { MessageInitShape } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { type AttachRequestSchema, Durability, MessageKind } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { PluginState } from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import { TrustLevel } from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import { failureOf } from "../harness/failure.ts";
import { Feed } from "../harness/feed.ts";
import { ALL_GRANTS, type Clients, describeHubs, manifestOf, TestHub } from "../harness/hub.ts";
import { Outbox } from "../harness/outbox.ts";

const GRANTS = { ...ALL_GRANTS, publishTopics: ["**"], subscribeTopics: ["**"], broadcast: true };
const transient = Durability.TRANSIENT;
const news = (more: object = {}) =>
	({ type: "news", payload: { body: { case: "json", value: "1" } }, ...more }) as const;

/** A receiving session. */
async function attach(plugin: Clients) {
	const up = new Outbox<MessageInitShape<typeof AttachRequestSchema>>({ frame: { case: "open", value: {} } });
	const down = new Feed(plugin.messaging.attach(up));
	await down.first("ready");
	const deliveries = () => down.all("batch").flatMap((batch) => batch.deliveries);
	const messages = () => deliveries().map(({ message }) => message!);
	const came = (count: number) => down.when(() => messages().length >= count);
	const acknowledge = () => {
		const settled = deliveries().map(({ deliveryId }) => ({
			deliveryId,
			outcome: { case: "acknowledge", value: true } as const,
		}));
		up.push({ frame: { case: "settlement", value: { deliveries: settled } } });
	};
	return { down, up, messages, came, acknowledge };
}

async function patternsOf(clients: Clients, request: object = {}) {
	const page = await clients.messaging.listTopicSubscriptions(request);
	return { all: page.subscriptions.map(({ pluginId, pattern }) => `${pluginId} ${pattern}`), next: page.nextPageToken };
}

describeHubs("topics", (start) => {
	it("are subscribed to once, listed and left", async () => {
		await using hub = await start();
		const [a, b] = [await hub.enrol("a", { subscribeTopics: ["house.**"] }), await hub.enrol("b", GRANTS)];
		const first = await a.messaging.subscribeTopic({ pattern: "house:*" });
		expect(first).toMatchObject({ duplicate: false, subscription: { pluginId: "a", pattern: "house:*" } });
		expect(await a.messaging.subscribeTopic({ pattern: "house.*" })).toEqual({ ...first, duplicate: true });
		await a.messaging.subscribeTopic({ pattern: "house.door" });
		await b.messaging.subscribeTopic({ pattern: "x" });
		for (const pattern of ["**", "garden"]) {
			expect(await failureOf(a.messaging.subscribeTopic({ pattern }))).toMatchObject({
				code: "PermissionDenied",
				reason: "INSUFFICIENT_PERMISSIONS",
				metadata: { grant: "subscribe_topics", pattern },
			});
		}
		expect(await failureOf(a.messaging.subscribeTopic({ pattern: "a..b" }))).toMatchObject({
			reason: "INVALID_PATTERN",
		});
		const one = await patternsOf(a, { pageSize: 1 });
		const two = await patternsOf(a, { pageSize: 1, pageToken: one.next });
		expect([one.all, two.all, two.next]).toEqual([["a house:*"], ["a house.door"], ""]);
		expect(await patternsOf(hub.operator)).toEqual({ all: ["a house:*", "a house.door", "b x"], next: "" });
		expect((await patternsOf(hub.operator, { pluginId: "b" })).all).toEqual(["b x"]);
		expect(await failureOf(a.messaging.listTopicSubscriptions({ pluginId: "b" }))).toMatchObject({
			reason: "CALLER_NOT_ALLOWED",
		});
		expect(await a.messaging.unsubscribeTopic({ pattern: "house.*" })).toMatchObject({ existed: true });
		expect(await a.messaging.unsubscribeTopic({ pattern: "house.*" })).toMatchObject({ existed: false });
		expect((await patternsOf(a)).all).toEqual(["a house.door"]);
	});

	it("reach the mailboxes of their subscribers, attached or not, and never the publisher", async () => {
		await using hub = await start();
		const [pub, here, away] = [
			await hub.enrol("pub", GRANTS),
			await hub.enrol("here", GRANTS),
			await hub.enrol("away", GRANTS),
		];
		for (const one of [pub, here, away]) await one.messaging.subscribeTopic({ pattern: "house.**" });
		await here.messaging.subscribeTopic({ pattern: "house:*" });
		await (await hub.enrol("other", GRANTS)).messaging.subscribeTopic({ pattern: "garden" });
		const { down, up, messages, came, acknowledge } = await attach(here);
		const { result } = await pub.messaging.publish({ topic: "house:door", message: news() });
		expect(result).toMatchObject({ delivered: 1, queued: 1, skipped: 0, reasons: [], duplicate: false });
		await came(1);
		const copy = { id: result!.id, type: "news", source: "pub", kind: MessageKind.PUBLICATION, topic: "house:door" };
		expect(messages()).toMatchObject([{ ...copy, recipient: "here", payload: news().payload }]);
		acknowledge();
		const late = await attach(away);
		await late.came(1);
		expect(late.messages()).toMatchObject([{ ...copy, recipient: "away" }]);
		late.acknowledge();
		const direct = { to: { target: { case: "pluginId", value: "here" } }, message: news() } as const;
		await pub.messaging.send({ ...direct, durability: transient });
		await came(2);
		expect(messages()[1]).toMatchObject({ topic: "" });
		expect(messages()[1]!.kind).toBeUndefined();
		for (const message of [news({ topic: "x" }), news({ kind: MessageKind.BROADCAST })]) {
			expect(await failureOf(pub.messaging.send({ ...direct, message }))).toMatchObject({ reason: "INVALID_FIELD" });
			expect(await failureOf(pub.messaging.publish({ topic: "t", message }))).toMatchObject({
				reason: "INVALID_FIELD",
			});
		}
		for (const session of [up, late.up]) session.end();
		await Promise.all([down.ended, late.down.ended]);
	});

	it("are published once under one id", async () => {
		await using hub = await start();
		const [pub, sub, later] = [
			await hub.enrol("pub", GRANTS),
			await hub.enrol("sub", GRANTS),
			await hub.enrol("later", GRANTS),
		];
		await sub.messaging.subscribeTopic({ pattern: "t" });
		const publish = (more: object) => pub.messaging.publish({ topic: "t", message: news({ id: "p-1" }), ...more });
		expect((await publish({})).result).toMatchObject({ id: "p-1", queued: 1, duplicate: false });
		expect((await publish({})).result).toMatchObject({ id: "p-1", queued: 1, duplicate: true });
		await later.messaging.subscribeTopic({ pattern: "t" });
		expect((await publish({})).result).toMatchObject({ queued: 2, duplicate: true });
		expect(await failureOf(publish({ message: news({ id: "p-1", type: "other" }) }))).toMatchObject({
			code: "Aborted",
			reason: "ID_REUSED",
		});
		const sessions = [await attach(sub), await attach(later)];
		for (const session of sessions) {
			await session.came(1);
			session.acknowledge();
		}
		const once = { message: news({ id: "p-2" }), durability: transient };
		expect((await publish(once)).result).toMatchObject({ delivered: 2, duplicate: false });
		expect((await publish(once)).result).toMatchObject({ delivered: 2, duplicate: true });
		expect(await failureOf(publish({ ...once, message: news({ id: "p-2", type: "x" }) }))).toMatchObject({
			reason: "ID_REUSED",
		});
		for (const session of sessions) {
			await session.came(2);
			expect(session.messages().map(({ id }) => id)).toEqual(["p-1", "p-2"]);
			session.up.end();
			await session.down.ended;
		}
	});

	it("keep what fails for one recipient from the others, and count it", async () => {
		await using hub = await start();
		const pub = await hub.enrol("pub", GRANTS);
		const ids = ["deaf", "shut", "trusted", "full", "revoked", "fine"];
		const subs = new Map<string, Clients>();
		for (const id of ids) {
			const grants = id === "deaf" ? { ...GRANTS, receiveFrom: ["fine"] } : GRANTS;
			subs.set(id, await hub.enrol(id, grants));
			await subs.get(id)!.messaging.subscribeTopic({ pattern: "t.*" });
		}
		await hub.operator.plugins.disable({ pluginId: "shut" });
		await hub.operator.admin.setTrustLevel({ pluginId: "trusted", trustLevel: TrustLevel.TRUSTED });
		await hub.operator.admin.setPermissions({ pluginId: "revoked", permissions: ALL_GRANTS });
		const blob = news({ payload: { body: { case: "binary", value: new Uint8Array(1_000_000) } } });
		const fill = { to: { target: { case: "pluginId", value: "full" } }, message: blob } as const;
		for (let sent = 0; sent < 67; sent++) await pub.messaging.send(fill).catch(() => {});
		const { result } = await pub.messaging.publish({ topic: "t.a", message: blob });
		const reasons = Object.fromEntries(result!.reasons.map(({ reason, count }) => [reason, count]));
		expect(reasons).toEqual({
			RECIPIENT_CANNOT_RECEIVE: 1,
			PLUGIN_DISABLED: 1,
			TRUST_LEVEL_MISMATCH: 1,
			MAILBOX_FULL: 1,
		});
		expect(result).toMatchObject({ delivered: 0, queued: 1, skipped: 4 });
		const { up, down, came } = await attach(subs.get("fine")!);
		await came(1);
		up.end();
		await down.ended;
		const nobody = await pub.messaging.publish({ topic: "t.a", message: news(), durability: transient });
		expect(nobody.result!.reasons.find(({ reason }) => reason === "RECIPIENT_UNAVAILABLE")?.count).toBe(2);
	});

	it("refuse whoever may not publish, and content that nobody may send", async () => {
		await using hub = await start();
		const pub = await hub.enrol("pub", { publishTopics: ["t.*"] });
		const publish = (topic: string, message: object = news()) => failureOf(pub.messaging.publish({ topic, message }));
		expect(await publish("u.a")).toMatchObject({
			reason: "INSUFFICIENT_PERMISSIONS",
			metadata: { grant: "publish_topics", topic: "u.a" },
		});
		expect(await publish("")).toMatchObject({ reason: "INVALID_EVENT_TYPE", fields: ["topic"] });
		expect(await publish("t.a", news({ payload: { body: { case: "json", value: "{" } } }))).toMatchObject({
			reason: "INVALID_CONTENT",
			fields: ["message.payload.json"],
		});
		expect(await failureOf(pub.messaging.publish({ topic: "t.a" }))).toMatchObject({ fields: ["message"] });
		expect((await pub.messaging.publish({ topic: "t.a", message: news() })).result).toMatchObject({ skipped: 0 });
	});

	it("go with their plugin", async () => {
		await using hub = await start();
		const [pub, sub] = [await hub.enrol("pub", GRANTS), await hub.enrol("sub", GRANTS)];
		await sub.messaging.subscribeTopic({ pattern: "t" });
		await sub.plugins.unregister({});
		expect((await patternsOf(hub.operator)).all).toEqual([]);
		expect((await pub.messaging.publish({ topic: "t", message: news() })).result).toMatchObject({
			queued: 0,
			skipped: 0,
		});
		const again = await hub.enrol("sub", GRANTS);
		expect((await patternsOf(again)).all).toEqual([]);
	});
});

it("subscriptions outlive a restart, and end where their end was stored", async () => {
	const options = { state: "embedded" } as const;
	await using outer = await TestHub.start({ options });
	const { directory } = outer;
	const [pub, sub] = [await outer.enrol("pub", GRANTS), await outer.enrol("sub", GRANTS)];
	await sub.messaging.subscribeTopic({ pattern: "kept.**" });
	await sub.messaging.subscribeTopic({ pattern: "left" });
	await sub.messaging.unsubscribeTopic({ pattern: "left" });
	await outer.running.stop();
	await using hub = await TestHub.start({ options, directory });
	const again = hub.connect(pub.token);
	expect((await patternsOf(hub.connect(sub.token))).all).toEqual(["sub kept.**"]);
	const publish = async (topic: string) => (await again.messaging.publish({ topic, message: news() })).result!.queued;
	expect([await publish("kept.a.b"), await publish("left")]).toEqual([1, 0]);
});

describeHubs("a broadcast", (start) => {
	it("reaches everyone that its filter selects but its sender, and counts the rest", async () => {
		await using hub = await start();
		const sender = await hub.enrol("sender", GRANTS);
		const plugins: Record<string, { categories?: string[]; provides?: string[]; version?: string }> = {
			lamp: { categories: ["light"], provides: ["light:on", "light.dim"], version: "1.4.0" },
			bulb: { categories: ["light"], provides: ["light.on"], version: "2.0.0" },
			radio: { categories: ["sound"] },
		};
		const sessions = new Map<string, Awaited<ReturnType<typeof attach>>>();
		for (const [pluginId, capabilities] of Object.entries(plugins)) {
			const clients = await hub.enrol(pluginId, ALL_GRANTS);
			await clients.plugins.register({ manifestJson: manifestOf(pluginId), capabilities });
			sessions.set(pluginId, await attach(clients));
		}
		const own = await attach(sender);
		await hub.enrol("idle");
		await hub.operator.admin.setTrustLevel({ pluginId: "lamp", trustLevel: TrustLevel.BASIC });
		const broadcast = async (filter: object | undefined, event = "tick") =>
			(await sender.messaging.broadcast({ event, data: { body: { case: "json", value: "7" } }, filter })).result!;
		const cases: [object, string[]][] = [
			[{ pluginIds: ["lamp", "nobody", "sender"] }, ["lamp"]],
			[{ categories: ["light", "sound"] }, ["bulb", "lamp", "radio"]],
			[{ capabilities: ["light.on"] }, ["bulb", "lamp"]],
			[{ capabilities: ["light.on", "light.dim"] }, ["lamp"]],
			[{ versionRange: "1.2.0", categories: ["light"] }, ["lamp"]],
			[{ minTrustLevel: TrustLevel.BASIC }, ["lamp"]],
			[{ states: [PluginState.ONLINE], pluginIds: ["bulb"] }, ["bulb"]],
			[{ states: [PluginState.DISABLED] }, []],
		];
		for (const [index, [filter, expected]] of cases.entries()) {
			const event = `case.${index}`;
			expect(await broadcast(filter, event)).toMatchObject({ delivered: expected.length, queued: 0, skipped: 0 });
			for (const id of expected) await sessions.get(id)!.down.when(() => seen(id).includes(event));
		}
		function seen(id: string): string[] {
			return sessions
				.get(id)!
				.messages()
				.map(({ type }) => type);
		}
		const all = await broadcast(undefined, "all");
		expect(all).toMatchObject({ delivered: 3, skipped: 1, reasons: [{ reason: "RECIPIENT_UNAVAILABLE", count: 1 }] });
		for (const id of sessions.keys()) await sessions.get(id)!.down.when(() => seen(id).includes("all"));
		const counts = [...sessions.keys()].map((id) => seen(id).length - 1);
		expect(counts).toEqual(Object.keys(plugins).map((id) => cases.filter(([, ids]) => ids.includes(id)).length));
		expect(sessions.get("radio")!.messages().at(-1)).toMatchObject({
			id: all.id,
			source: "sender",
			recipient: "radio",
			kind: MessageKind.BROADCAST,
			topic: "",
			payload: { body: { case: "json", value: "7" } },
		});
		expect(own.messages()).toEqual([]);
		for (const session of [own, ...sessions.values()]) {
			session.up.end();
			await session.down.ended;
		}
	});

	it("passes the guard, each recipient's too, and shows no plugin that hides", async () => {
		await using hub = await start();
		const sender = await hub.enrol("sender", GRANTS);
		const mute = await hub.enrol("mute", { ...GRANTS, broadcast: false });
		await hub.enrol("deaf", { ...ALL_GRANTS, receiveFrom: [] });
		await hub.enrol("high", ALL_GRANTS);
		await hub.operator.admin.setTrustLevel({ pluginId: "high", trustLevel: TrustLevel.TRUSTED });
		const hidden = await hub.enrol("hidden");
		await hidden.plugins.register({
			manifestJson: manifestOf("hidden"),
			capabilities: { accessControl: { deny: ["sender"] } },
		});
		expect(await failureOf(mute.messaging.broadcast({ event: "e" }))).toMatchObject({
			code: "PermissionDenied",
			reason: "INSUFFICIENT_PERMISSIONS",
			metadata: { grant: "broadcast" },
		});
		const { result } = await sender.messaging.broadcast({ event: "e", id: "b-1" });
		expect(Object.fromEntries(result!.reasons.map(({ reason, count }) => [reason, count]))).toEqual({
			RECIPIENT_CANNOT_RECEIVE: 1,
			TRUST_LEVEL_MISMATCH: 1,
			RECIPIENT_UNAVAILABLE: 1,
		});
		expect((await sender.messaging.broadcast({ event: "e", id: "b-1" })).result).toMatchObject({ duplicate: true });
		for (const other of [{ event: "f" }, { event: "e", filter: { pluginIds: ["mute"] } }]) {
			expect(await failureOf(sender.messaging.broadcast({ ...other, id: "b-1" }))).toMatchObject({
				reason: "ID_REUSED",
			});
		}
		const refused: [object, string][] = [
			[{ event: "" }, "event"],
			[{ event: "e", id: "x".repeat(129) }, "id"],
			[{ event: "e", filter: { pluginIds: ["NO"] } }, "filter.plugin_ids[0]"],
			[{ event: "e", filter: { categories: [""] } }, "filter.categories[0]"],
			[{ event: "e", filter: { capabilities: ["a..b"] } }, "filter.capabilities[0]"],
			[{ event: "e", filter: { versionRange: "x.y" } }, "filter.version_range"],
			[{ event: "e", filter: { minTrustLevel: 9 } }, "filter.min_trust_level"],
			[{ event: "e", filter: { states: [0] } }, "filter.states[0]"],
			[{ event: "e", data: { body: { case: "json", value: "{" } } }, "data.json"],
		];
		for (const [request, field] of refused) {
			expect(await failureOf(sender.messaging.broadcast(request))).toMatchObject({ fields: [field] });
		}
	});
});
