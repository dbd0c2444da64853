import { expect, it } from "vitest";
import type { HubClient, IncomingMessage, Route, RouteDraft } from "../../src/client/exports.ts";
import { connect } from "../../src/client/index.ts";
import { connect as connectWeb } from "../../src/client/web.ts";
import { ALL_GRANTS, describeHubs, manifestOf, type TestHub, until } from "../harness/hub.ts";
import { quiet } from "./client-opener.ts";

const orders: RouteDraft = {
	name: "orders",
	match: { alias: "orders", types: ["order.**"], senders: ["ada"] },
	action: { kind: "alias", pluginId: "bob" },
};

function operatorOf(hub: TestHub): Promise<HubClient> {
	return connect({ url: hub.url, token: hub.operator.token, logger: quiet });
}

async function plugin(hub: TestHub, id: string): Promise<HubClient> {
	const { admin } = hub.operator;
	const { token } = await admin.issueCredential({ principal: { case: "pluginId", value: id } });
	await admin.setPermissions({ pluginId: id, permissions: ALL_GRANTS });
	return connect({ url: hub.url, token, manifest: manifestOf(id), logger: quiet });
}

async function all(client: HubClient): Promise<Route[]> {
	return Array.fromAsync(client.routes.list());
}

describeHubs("an operator's client", (start) => {
	it("puts a route that messages follow at once, and deletes it", async () => {
		await using hub = await start();
		await using operator = await operatorOf(hub);
		await using ada = await plugin(hub, "ada");
		await using bob = await plugin(hub, "bob");
		expect([operator.state, operator.plugin, operator.instanceId]).toEqual(["ready", undefined, ""]);
		const seen: IncomingMessage[] = [];
		await bob.messages.handle("**", (message) => void seen.push(message)).ready;
		const put = await operator.routes.put(orders, { expected: "absent" });
		expect(put).toEqual({ route: { ...orders, priority: 0, revision: expect.any(BigInt) }, duplicate: false });
		await ada.messages.send({ alias: "orders" }, "order.new", 1);
		await until(() => seen.length === 1);
		expect(await operator.routes.get("orders")).toEqual(put.route);
		expect(await operator.routes.delete("orders", { expected: put.route.revision })).toBe(false);
		await expect(operator.routes.get("orders")).rejects.toMatchObject({
			name: "HubClientError",
			reason: "ROUTE_NOT_FOUND",
		});
		await expect(ada.messages.send({ alias: "orders" }, "order.new", 1)).rejects.toThrow();
	});

	it("says what it expects, repeats under a request id, and checks first", async () => {
		await using hub = await start();
		await using operator = await operatorOf(hub);
		const { routes } = operator;
		expect((await routes.put(orders, { validateOnly: true })).route.revision).toBe(0n);
		expect(await all(operator)).toEqual([]);
		await expect(routes.put(orders, { expected: "exists" })).rejects.toMatchObject({ reason: "REVISION_MISMATCH" });
		const first = await routes.put(orders, { requestId: "one" });
		const again = await routes.put(orders, { requestId: "one" });
		expect(again).toEqual({ route: first.route, duplicate: true });
		await expect(routes.put({ ...orders, priority: 5 }, { requestId: "one" })).rejects.toMatchObject({
			reason: "ID_REUSED",
		});
		const { route } = await routes.put({ ...first.route, priority: 5 }, { expected: first.route.revision });
		await expect(routes.put(orders, { expected: first.route.revision })).rejects.toMatchObject({
			reason: "REVISION_MISMATCH",
		});
		await expect(routes.delete("orders", { expected: "absent" })).rejects.toMatchObject({
			reason: "REVISION_MISMATCH",
		});
		expect(await routes.delete("orders", { validateOnly: true })).toBe(false);
		expect(await all(operator)).toEqual([route]);
		expect(await routes.delete("orders", { requestId: "two" })).toBe(false);
		expect(await routes.delete("orders", { requestId: "two" })).toBe(true);
		const circle = { name: "circle", match: { recipient: "a" }, action: { kind: "redirect", pluginId: "a" } } as const;
		await expect(routes.put(circle)).rejects.toMatchObject({ reason: "INVALID_FIELD" });
		await expect(routes.put({ ...circle, match: { recipient: "a", alias: "b" } })).rejects.toBeInstanceOf(TypeError);
	});

	it("lists every kind of route, page by page, in the order in which they are asked", async () => {
		await using hub = await start();
		await using operator = await operatorOf(hub);
		const kinds: RouteDraft[] = [
			{ name: "all", priority: 4, action: { kind: "mirror", pluginId: "spy" } },
			{ name: "none", priority: 3, match: { senders: ["eve"] }, action: { kind: "deny", reason: "no" } },
			{ name: "gone", priority: 2, match: { recipient: "old" }, action: { kind: "redirect", pluginId: "new" } },
			{
				name: "try",
				priority: 1,
				match: { recipient: "one", types: ["a.b"] },
				action: {
					kind: "split",
					targets: [
						{ pluginId: "one", weight: 9 },
						{ pluginId: "two", weight: 1 },
					],
				},
			},
		];
		const many = Array.from({ length: 100 }, (_, index) => ({
			name: `a${String(index).padStart(3, "0")}`,
			priority: 0,
			match: { alias: `a${index}` },
			action: { kind: "alias", pluginId: "one" } as const,
		}));
		for (const route of [...many.toReversed(), ...kinds]) await operator.routes.put(route);
		expect((await all(operator)).map(({ revision: _, ...route }) => route)).toEqual([...kinds, ...many]);
	});

	it("works in a browser, and no plugin has a part in it", async () => {
		await using hub = await start();
		const { transport } = hub.connect();
		const { url } = hub;
		await using operator = await connectWeb({ url, transport, token: hub.operator.token, logger: quiet });
		await using ada = await plugin(hub, "ada");
		const { route } = await operator.routes.put(orders);
		expect(await all(operator)).toEqual([route]);
		const refused = { name: "HubClientError", reason: "CALLER_NOT_ALLOWED" };
		await expect(ada.routes.put(orders)).rejects.toMatchObject(refused);
		await expect(ada.routes.get("orders")).rejects.toMatchObject(refused);
		await expect(all(ada)).rejects.toMatchObject(refused);
		await expect(ada.routes.delete("orders")).rejects.toMatchObject(refused);
		await operator.close();
		await expect(operator.routes.get("orders")).rejects.toMatchObject({ reason: "CLIENT_CLOSED" });
	});
});
