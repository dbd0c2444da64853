// Orders wait for a kitchen that is closed, an interceptor takes out what no kitchen should read, a route says which kitchen
// cooks, and a topic tells the waiters. Start a hub with `npm start`, then run `node examples/kitchen.ts`. HUB_URL and
// HUB_OPERATOR_TOKEN name another hub than that of this folder.
import { readFileSync } from "node:fs";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { PluginService } from "#gen/qirvo/hub/v1/plugin_service_pb.js";
import {
	type PermissionsSchema,
	SecurityAdminService,
	TrustLevel,
} from "#gen/qirvo/hub/v1/security_admin_service_pb.js";
import { connect, type HubClient } from "../src/client/index.ts";

interface Order {
	readonly dish: string;
	readonly card?: string;
}

const url = process.env.HUB_URL ?? "http://127.0.0.1:50051";
await using operator = await connect({
	url,
	token: process.env.HUB_OPERATOR_TOKEN ?? readFileSync("data/operator.token", "utf8").trim(),
});
const admin = createClient(SecurityAdminService, operator.transport);
const plugins = createClient(PluginService, operator.transport);

const entered = new Map<string, HubClient>();
const shop = await enter("shop", { sendTo: ["kitchen", "night-kitchen"] });
const waiter = await enter("waiter", { receiveFrom: ["*"], subscribeTopics: ["dish.*"] });
const cashier = await enter("cashier", { intercept: true }, TrustLevel.TRUSTED);
const cook = { receiveFrom: ["*"], publishTopics: ["dish.*"] };
const kitchen = await enter("kitchen", cook);
const nightKitchen = await enter("night-kitchen", cook);

// The operator says where "orders" go. Nobody sends to a kitchen by its name.
const match = { alias: "orders" };
const leadTo = (kitchen: string) =>
	operator.routes.put({ name: "orders", match, action: { kind: "alias", pluginId: kitchen } });
await leadTo("kitchen");

// The cashier looks at every order first, and no order passes without.
const interception = cashier.messages.intercept<Order>(
	{ name: "cards", types: ["order"], onFailure: "closed" },
	({ data: { dish, card } }) => {
		if (card === undefined) return { kind: "refuse", reason: "an order needs a card" };
		return { kind: "change", data: { dish }, attributes: { paid: "yes" } };
	},
);
await interception.ready;

// The order is stored before the shop is told, and waits for the kitchen to open.
const order = (dish: string, card?: string) => shop.messages.send({ alias: "orders" }, "order", { dish, card });
console.log(`the soup is ${(await order("soup", "1234")).disposition}`);
await order("salad").catch((error) => console.log(`the salad is refused: ${error.message}`));

await waiter.messages.subscribeTopic("dish.*");
const served = Promise.withResolvers<void>();
let dishes = 0;
await waiter.messages.handle<Order>("dish.ready", ({ data, source, topic }) => {
	console.log(`the waiter takes the ${data.dish} from ${source} (${topic})`);
	if (++dishes === 2) served.resolve();
}).ready;

await opens("kitchen", kitchen);
await opens("night kitchen", nightKitchen);

await leadTo("night-kitchen");
await order("stew", "5678");
await served.promise;

interception[Symbol.dispose]();
await interception.ended;
await operator.routes.delete("orders");
for (const [pluginId, client] of entered) {
	await client.close();
	await plugins.unregister({ pluginId });
	await admin.revokeCredential({ target: { case: "pluginId", value: pluginId } });
}

/** A kitchen cooks what waits for it and what comes; an order is acknowledged once its dish is announced. */
async function opens(name: string, { messages }: HubClient) {
	await messages.handle<Order>("order", async ({ data, attributes }) => {
		console.log(`the ${name} cooks ${JSON.stringify(data)}, paid: ${attributes.paid}`);
		await messages.publish("dish.ready", { dish: data.dish });
	}).ready;
}

/** A plugin with these grants, connected. */
async function enter(
	id: string,
	permissions: MessageInitShape<typeof PermissionsSchema>,
	trustLevel = TrustLevel.UNTRUSTED,
) {
	const { token } = await admin.issueCredential({ principal: { case: "pluginId", value: id } });
	await admin.setTrustLevel({ pluginId: id, trustLevel });
	await admin.setPermissions({ pluginId: id, permissions });
	const client = await connect({ url, token, manifest: { manifest_version: 2, id, name: id, version: "1.0.0" } });
	entered.set(id, client);
	return client;
}
