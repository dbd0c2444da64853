import type { MessageInitShape } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { type AttachRequestSchema, type AttachResponse, Durability } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { RouteSchema } from "#gen/qirvo/hub/v1/routes_pb.js";
import { failureOf } from "../harness/failure.ts";
import { Feed } from "../harness/feed.ts";
import { ALL_GRANTS, type Clients, describeHubs, type TestHub, until } from "../harness/hub.ts";
import { Outbox } from "../harness/outbox.ts";

type Up = MessageInitShape<typeof AttachRequestSchema>;
type RouteInit = MessageInitShape<typeof RouteSchema>;

const plugin = (value: string) => ({ target: { case: "pluginId", value } }) as const;
const alias = (value: string) => ({ target: { case: "alias", value } }) as const;
const forRecipient = (value: string) => ({ address: { case: "recipient", value } }) as const;
const forAlias = (value: string) => ({ address: { case: "alias", value } }) as const;
const redirect = (name: string, from: string, to: string, more: object = {}): RouteInit => ({
	name,
	match: { ...forRecipient(from), ...more },
	action: { case: "redirect", value: to },
});
const transient = Durability.TRANSIENT;

async function* acknowledged(frames: AsyncIterable<AttachResponse>, up: Outbox<Up>) {
	for await (const response of frames) {
		yield response;
		if (response.frame.case !== "batch") continue;
		const deliveries = response.frame.value.deliveries
			.filter(({ message }) => !message?.requiresResponse)
			.map(({ deliveryId }) => ({ deliveryId, outcome: { case: "acknowledge", value: true } as const }));
		up.push({ frame: { case: "settlement", value: { deliveries } } });
	}
}

/** A plugin's receiving session that acknowledges what comes. */
async function attach(clients: Clients) {
	const up = new Outbox<Up>({ frame: { case: "open", value: { maxInFlight: 10_000 } } });
	const down = new Feed<AttachResponse>(acknowledged(clients.messaging.attach(up), up));
	await down.first("ready");
	const messages = () => down.all("batch").flatMap(({ deliveries }) => deliveries.map(({ message }) => message!));
	return { down, messages, ids: () => messages().map(({ id }) => id) };
}

async function world(hub: TestHub, ...ids: string[]) {
	const found: Record<string, Clients & { session: Awaited<ReturnType<typeof attach>> }> = {};
	for (const id of ids) {
		const clients = await hub.enrol(id);
		found[id] = Object.assign(clients, { session: await attach(clients) });
	}
	const put = (route: RouteInit, more: object = {}) => hub.operator.messaging.putRoute({ route, ...more });
	const send = (from: string, to: ReturnType<typeof plugin> | ReturnType<typeof alias>, message: object = {}) =>
		found[from]!.messaging.send({ to, message: { type: "note.new", ...message }, durability: transient });
	return { ...found, found, put, send, inbox: (id: string) => found[id]!.session };
}

describeHubs("a route", (start) => {
	it("is made, shown, replaced and deleted by operators alone, with its audit record", async () => {
		await using hub = await start({ readsAudit: true });
		const { found, put } = await world(hub, "alice");
		const { messaging } = hub.operator;
		const route = redirect("first", "bob", "carol", { types: ["note.**"], senders: ["alice"] });
		const request = { route, requestId: "r-1", expected: { state: { case: "absent", value: true } } } as const;
		await messaging.putRoute({ ...request, validateOnly: true });
		expect(await failureOf(messaging.getRoute({ name: "first" }))).toMatchObject({ reason: "ROUTE_NOT_FOUND" });
		const made = await messaging.putRoute(request);
		expect(made).toMatchObject({ duplicate: false, route: { route } });
		expect(await messaging.putRoute(request)).toMatchObject({ duplicate: true, route: made.route });
		expect(await failureOf(messaging.putRoute({ ...request, route: { ...route, priority: 1 } }))).toMatchObject({
			reason: "ID_REUSED",
		});
		expect(await failureOf(put(route, { expected: request.expected }))).toMatchObject({ reason: "REVISION_MISMATCH" });
		const { revision } = made.route!;
		const revised = (value: bigint) => ({ expected: { state: { case: "revision", value } } }) as const;
		for (const wrong of [revised(revision + 1n), { ...revised(revision + 1n), validateOnly: true }]) {
			expect(await failureOf(put(route, wrong))).toMatchObject({
				reason: "REVISION_MISMATCH",
				metadata: { revision: String(revision) },
			});
		}
		const same = await put(route, revised(revision));
		expect(same.route!.revision).toBeGreaterThan(revision);
		await put({ ...route, name: "second", priority: 5 });
		const page = await messaging.listRoutes({ pageSize: 1 });
		expect(page.routes.map((each) => each.route?.name)).toEqual(["second"]);
		const rest = await messaging.listRoutes({ pageSize: 1, pageToken: page.nextPageToken });
		expect(rest).toMatchObject({ routes: [same.route], nextPageToken: "" });
		expect(await failureOf(found.alice!.messaging.putRoute({ route }))).toMatchObject({ reason: "CALLER_NOT_ALLOWED" });
		expect(await failureOf(found.alice!.messaging.listRoutes({}))).toMatchObject({ reason: "CALLER_NOT_ALLOWED" });
		await messaging.deleteRoute({ name: "first", validateOnly: true });
		expect(await failureOf(messaging.deleteRoute({ name: "first", ...revised(revision) }))).toMatchObject({
			reason: "REVISION_MISMATCH",
		});
		expect(await messaging.deleteRoute({ name: "first", requestId: "d-1" })).toMatchObject({ duplicate: false });
		expect(await messaging.deleteRoute({ name: "first", requestId: "d-1" })).toMatchObject({ duplicate: true });
		expect(await failureOf(messaging.deleteRoute({ name: "first" }))).toMatchObject({ reason: "ROUTE_NOT_FOUND" });
		const changes = (await hub.recorded("changes")).filter(({ event }) => event.startsWith("route_"));
		expect(changes.map(({ event, actor, target }) => `${event} ${actor} ${target}`)).toEqual([
			"route_put operator:root route:first",
			"route_put operator:root route:first",
			"route_put operator:root route:second",
			"route_deleted operator:root route:first",
		]);
	});

	it("or none of an alias is the same to a sender that may send to nobody, which is recorded", async () => {
		await using hub = await start({ readsAudit: true });
		const { put, send } = await world(hub, "alice", "bob");
		await put({ name: "known", match: forAlias("known"), action: { case: "alias", value: "bob" } });
		const mute = await hub.enrol("mute", { ...ALL_GRANTS, sendTo: [] });
		const refused = async (name: string) => {
			const message = { type: "a" };
			const sent = await failureOf(mute.messaging.send({ to: alias(name), message }));
			expect(sent).toMatchObject({ code: "PermissionDenied", reason: "NO_SEND_PERMISSION", metadata: { alias: name } });
			const asked = new Feed(mute.messaging.requestMany({ to: [alias(name)], message }));
			await asked.ended;
			expect(asked.failure).toMatchObject({ reason: "NO_SEND_PERMISSION" });
			return sent.message;
		};
		expect(await refused("known")).toBe(await refused("unknown"));
		expect(await failureOf(send("alice", alias("unknown")))).toMatchObject({ reason: "NO_ROUTE" });
		const targets = async () => (await hub.recorded("denials")).map(({ reason, target }) => `${reason} ${target}`);
		await until(async () => (await targets()).length === 4);
		expect((await targets()).filter((target) => target.endsWith("alias:unknown"))).toHaveLength(2);
	});

	it("is refused where it could not work, with the field", async () => {
		await using hub = await start();
		const { put } = await world(hub);
		const split = (targets: object[], match: object | undefined = forAlias("a")): RouteInit =>
			({ name: "x", match, action: { case: "split", value: { targets } } }) as RouteInit;
		const bad: [RouteInit, string][] = [
			[{ name: "" }, "route.name"],
			[{ name: "x" }, "route"],
			[{ ...redirect("x", "a", "b"), priority: 1001 }, "route.priority"],
			[redirect("x", "a", "b", { types: ["a.**.b"] }), "route.match.types[0]"],
			[redirect("x", "a", "b", { senders: ["-"] }), "route.match.senders[0]"],
			[redirect("x", "a", "b", { senders: Array(65).fill("a") }), "route.match.senders"],
			[{ name: "x", action: { case: "redirect", value: "b" } }, "route.match.recipient"],
			[{ name: "x", match: forRecipient("a"), action: { case: "alias", value: "b" } }, "route.match.alias"],
			[{ name: "x", match: forAlias(""), action: { case: "alias", value: "b" } }, "route.match.alias"],
			[split([]), "route.split.targets"],
			[split([{ pluginId: "b", weight: 0 }]), "route.split.targets[0].weight"],
			[split(Array(2).fill({ pluginId: "b", weight: 1 })), "route.split.targets[1].plugin_id"],
			[split([{ pluginId: "b", weight: 1 }], {}), "route.match"],
			[{ name: "x", action: { case: "deny", value: { reason: "x".repeat(513) } } }, "route.deny.reason"],
			[redirect("x", "a", "a"), "route"],
		];
		for (const [route, field] of bad) expect((await failureOf(put(route))).fields).toEqual([field]);
		await put(redirect("r-1", "a", "b"));
		await put({
			...split(
				[
					{ pluginId: "c", weight: 1 },
					{ pluginId: "b", weight: 1 },
				],
				forRecipient("b"),
			),
			name: "r-2",
		});
		const circle = await failureOf(put(redirect("r-3", "c", "a", { types: ["only.this"] })));
		expect(circle).toMatchObject({ reason: "INVALID_FIELD", fields: ["route"] });
		expect(circle.message).toContain("circle");
		await put(redirect("r-3", "c", "d"));
		expect(await failureOf(put(redirect("r-1", "d", "b")))).toMatchObject({ reason: "INVALID_FIELD" });
	});

	it("gives an alias its plugin, of which the guard then judges", async () => {
		await using hub = await start();
		const { put, send, inbox } = await world(hub, "alice", "bob");
		const poor = await hub.enrol("poor", { sendTo: ["alice"] });
		expect(await failureOf(send("alice", alias("notes")))).toMatchObject({ reason: "NO_ROUTE" });
		await put({ name: "notes", match: forAlias("notes"), action: { case: "alias", value: "bob" } });
		await send("alice", alias("notes"), { id: "m-1" });
		await inbox("bob").down.when(() => inbox("bob").ids().length === 1);
		expect(inbox("bob").messages()).toMatchObject([{ id: "m-1", source: "alice", recipient: "bob" }]);
		const refused = poor.messaging.send({ to: alias("notes"), message: { type: "a" } });
		expect(await failureOf(refused)).toMatchObject({ reason: "NO_SEND_PERMISSION", metadata: { recipient: "bob" } });
		await hub.operator.messaging.deleteRoute({ name: "notes" });
		expect(await failureOf(send("alice", alias("notes")))).toMatchObject({ reason: "NO_ROUTE" });
	});

	it("redirects by type and sender, over several steps, requests and durable messages alike", async () => {
		await using hub = await start();
		const { found, put, send, inbox } = await world(hub, "alice", "bob", "carol", "dave");
		await put(redirect("one", "bob", "carol", { types: ["note.*"], senders: ["alice"] }));
		await put(redirect("two", "carol", "dave", { types: ["note.*"] }));
		await send("alice", plugin("bob"), { id: "1" });
		await send("alice", plugin("bob"), { id: "2", type: "other" });
		await send("dave", plugin("bob"), { id: "3" });
		await found.alice!.messaging.send({ to: plugin("bob"), message: { type: "note:durable", id: "4" } });
		const asked = found.alice!.messaging.request({
			to: plugin("bob"),
			message: { type: "note.ask", id: "5" },
			timeout: { nanos: 20_000_000 },
		});
		expect(await failureOf(asked)).toMatchObject({ reason: "DEADLINE_EXCEEDED" });
		await inbox("dave").down.when(() => inbox("dave").ids().length === 3);
		expect(inbox("dave").ids()).toEqual(["1", "4", "5"]);
		await inbox("bob").down.when(() => inbox("bob").ids().length === 2);
		expect(inbox("bob").ids()).toEqual(["2", "3"]);
		expect(inbox("carol").ids()).toEqual([]);
	});

	it("stops leading on after eight", async () => {
		await using hub = await start();
		const { put, send } = await world(hub, "alice");
		for (let step = 0; step < 9; step++) await put(redirect(`r-${step}`, `p-${step}`, `p-${step + 1}`));
		expect(await failureOf(send("alice", plugin("p-1")))).toMatchObject({
			reason: "NO_ROUTE",
			metadata: { plugin: "p-9" },
		});
		const tooFar = await failureOf(send("alice", plugin("p-0")));
		expect(tooFar).toMatchObject({ reason: "NO_ROUTE", metadata: { plugin: "p-0" } });
		expect(tooFar.message).toContain("more than 8");
	});

	it("splits by weight, all of one ordering key the same way and in order", async () => {
		await using hub = await start();
		const { found, put, inbox } = await world(hub, "alice", "bob", "carol");
		const targets = [
			{ pluginId: "bob", weight: 3 },
			{ pluginId: "carol", weight: 1 },
		];
		await put({ name: "canary", match: forRecipient("bob"), action: { case: "split", value: { targets } } });
		const entries = Array.from({ length: 1000 }, (_, index) => ({
			entryId: BigInt(index),
			to: plugin("bob"),
			message: { type: "note.new", id: String(index), orderingKey: index < 500 ? `key-${index % 5}` : "" },
			durability: transient,
		}));
		const results = new Feed(
			found.alice!.messaging.sendStream(new Outbox({ frame: { case: "batch" as const, value: { entries } } }).ending()),
		);
		await results.ended;
		expect(results.failure).toBeUndefined();
		const [bob, carol] = [inbox("bob"), inbox("carol")];
		await until(() => bob.ids().length + carol.ids().length === 1000);
		// The share of 500 messages at 3 to 1 has a standard deviation of about 10.
		const share = carol.ids().filter((id) => Number(id) >= 500).length;
		expect(share).toBeGreaterThan(75);
		expect(share).toBeLessThan(175);
		for (const key of ["key-0", "key-1", "key-2", "key-3", "key-4"]) {
			const of = (inboxOf: typeof bob) => inboxOf.messages().filter(({ orderingKey }) => orderingKey === key);
			const [there, elsewhere] = of(bob).length > 0 ? [of(bob), of(carol)] : [of(carol), of(bob)];
			expect(elsewhere).toEqual([]);
			const order = there.map(({ id }) => Number(id));
			expect(order).toHaveLength(100);
			expect(order).toEqual(order.toSorted((a, b) => a - b));
		}
	});

	it("copies to a mirror whose fate touches nothing, and never to one that may not receive", async () => {
		await using hub = await start();
		const { found, put, send, inbox } = await world(hub, "alice", "bob", "carol");
		await hub.enrol("idle");
		await hub.enrol("deaf", { ...ALL_GRANTS, receiveFrom: [] });
		for (const to of ["carol", "idle", "deaf", "nobody", "bob"]) {
			await put({ name: `to-${to}`, match: forRecipient("bob"), action: { case: "mirror", value: to } });
		}
		await send("alice", plugin("bob"), { id: "1", attributes: { a: "b" } });
		expect(await send("alice", plugin("bob"), { id: "1", attributes: { a: "b" } })).toMatchObject({ duplicate: true });
		await found.alice!.messaging.send({ to: plugin("bob"), message: { type: "note.durable", id: "2" } });
		expect(await failureOf(send("alice", plugin("idle")))).toMatchObject({ reason: "RECIPIENT_UNAVAILABLE" });
		const [bob, carol] = [inbox("bob"), inbox("carol")];
		await until(() => bob.ids().length === 2 && carol.ids().length === 2);
		expect(bob.messages()).toMatchObject([{ attributes: { a: "b" } }, { id: "2" }]);
		expect(bob.messages()[0]!.attributes["hub-mirror"]).toBeUndefined();
		expect(carol.messages()).toMatchObject([
			{ id: "1", source: "alice", recipient: "carol", attributes: { a: "b", "hub-mirror": "to-carol" } },
			{ id: "2", requiresResponse: false, attributes: { "hub-mirror": "to-carol" } },
		]);
	});

	it("denies with its reason, audited, after the sender's own grants were looked at", async () => {
		await using hub = await start({ readsAudit: true });
		const { put, send } = await world(hub, "alice", "bob");
		const poor = await hub.enrol("poor", {});
		await put({
			name: "shut",
			match: forRecipient("bob"),
			action: { case: "deny", value: { reason: "closed today" } },
		});
		await put({ name: "shut-alias", match: forAlias("x"), action: { case: "deny", value: {} } });
		expect(await failureOf(send("alice", plugin("bob")))).toMatchObject({
			code: "PermissionDenied",
			reason: "ROUTE_DENIED",
			message: "closed today",
			metadata: { route: "shut" },
		});
		expect(await failureOf(send("alice", alias("x")))).toMatchObject({ reason: "ROUTE_DENIED" });
		const refused = poor.messaging.send({ to: plugin("bob"), message: { type: "a" } });
		expect(await failureOf(refused)).toMatchObject({ reason: "NO_SEND_PERMISSION" });
		await until(async () => (await hub.recorded("denials")).length === 3);
		expect(await hub.recorded("denials")).toMatchObject([
			{
				event: "message_denied",
				actor: "plugin:alice",
				target: "plugin:bob",
				reason: "route_denied",
				details: { message: "closed today" },
			},
			{ target: "alias:x", reason: "route_denied" },
			{ actor: "plugin:poor", target: "plugin:bob", reason: "no_send_permission" },
		]);
	});

	it("is asked by priority, then by name", async () => {
		await using hub = await start();
		const { put, send, inbox } = await world(hub, "alice", "bob", "carol");
		const deny = (name: string, priority: number): RouteInit => ({
			name,
			priority,
			action: { case: "deny", value: { reason: name } },
		});
		await put(deny("z", 0));
		await put(deny("b", 0));
		expect((await failureOf(send("alice", plugin("bob")))).message).toBe("b");
		await put(deny("y", 10));
		expect((await failureOf(send("alice", plugin("bob")))).message).toBe("y");
		await put({ ...redirect("a", "bob", "carol"), priority: 20 });
		expect((await failureOf(send("alice", plugin("bob")))).message).toBe("y");
		for (const name of ["b", "y", "z"]) await hub.operator.messaging.deleteRoute({ name });
		await send("alice", plugin("bob"), { id: "1" });
		await inbox("carol").down.when(() => inbox("carol").ids().length === 1);
	});
});
