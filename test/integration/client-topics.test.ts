import { expect, it } from "vitest";
import type { HubClient, IncomingMessage, ManyReply } from "../../src/client/exports.ts";
import { connect } from "../../src/client/index.ts";
import { ALL_GRANTS, describeHubs, manifestOf, type TestHub, until } from "../harness/hub.ts";
import { quiet } from "./client-opener.ts";

const GRANTS = { ...ALL_GRANTS, publishTopics: ["**"], subscribeTopics: ["**"], broadcast: true };

async function plugin(hub: TestHub, id: string): Promise<HubClient> {
	const { admin } = hub.operator;
	const { token } = await admin.issueCredential({ principal: { case: "pluginId", value: id } });
	await admin.setPermissions({ pluginId: id, permissions: GRANTS });
	return connect({ url: hub.url, token, manifest: manifestOf(id), logger: quiet });
}

describeHubs("the client", (start) => {
	it("subscribes to topics, publishes and broadcasts", async () => {
		await using hub = await start();
		await using ada = await plugin(hub, "ada");
		await using bob = await plugin(hub, "bob");
		expect(await bob.messages.subscribeTopic("house.**")).toBe(true);
		expect(await bob.messages.subscribeTopic("house:**")).toBe(false);
		await bob.messages.subscribeTopic("left");
		expect([await bob.messages.unsubscribeTopic("left"), await bob.messages.unsubscribeTopic("left")]).toEqual([
			true,
			false,
		]);
		const subscriptions = [];
		for await (const { pluginId, pattern } of bob.messages.topicSubscriptions())
			subscriptions.push([pluginId, pattern]);
		expect(subscriptions).toEqual([["bob", "house.**"]]);
		const early = await ada.messages.publish("house:door", { open: true }, { attributes: { a: "1" } });
		expect(early).toMatchObject({ delivered: 0, queued: 1, skipped: 0, duplicate: false });
		const seen: IncomingMessage[] = [];
		await bob.messages.handle("**", (message) => void seen.push(message)).ready;
		await until(() => seen.length === 1);
		expect(seen[0]).toMatchObject({ id: early.id, type: "house:door", topic: "house:door", kind: "publication" });
		expect([seen[0]!.data, seen[0]!.attributes]).toEqual([{ open: true }, { a: "1" }]);
		const again = { id: "mine", type: "alarm", durability: "transient" } as const;
		expect(await ada.messages.publish("house", 1, again)).toMatchObject({ id: "mine", duplicate: false });
		expect(await ada.messages.publish("house", 1, again)).toMatchObject({ id: "mine", duplicate: true });
		const told = await ada.messages.broadcast("tick", 7, { filter: { pluginIds: ["bob"], states: ["online"] } });
		expect(told).toMatchObject({ skipped: 0 });
		await until(() => seen.length === 3);
		expect(seen.slice(1).map(({ type, kind, topic }) => [type, kind, topic])).toEqual([
			["alarm", "publication", "house"],
			["tick", "broadcast", undefined],
		]);
		const none = await ada.messages.broadcast("tick", 7, { filter: { minTrust: "verified" } });
		expect([none.delivered, none.skipped, [...none.reasons]]).toEqual([0, 0, []]);
		await expect(ada.messages.publish("a..b")).rejects.toMatchObject({ reason: "INVALID_EVENT_TYPE" });
	});

	it("asks several and gives each reply when it comes", async () => {
		await using hub = await start();
		await using ada = await plugin(hub, "ada");
		await using bob = await plugin(hub, "bob");
		await using eve = await plugin(hub, "eve");
		let given = 0;
		await bob.messages.handle("ask", ({ data }) => data + 1).ready;
		await eve.messages.handle("ask", () => Promise.reject(new Error("no"))).ready;
		await eve.messages.handle("wait", async (_, { signal }) => {
			await new Promise((resolve) => signal.addEventListener("abort", resolve));
			given++;
		}).ready;
		const asked = ada.messages.requestMany<number>(["bob", "eve", "bob", { plugin: "nobody" }], "ask", 1);
		const came = new Map<string, ManyReply<number>>();
		let next = await asked.next();
		for (; !next.done; next = await asked.next()) came.set(next.value.source, next.value);
		expect(next.value).toEqual({ end: "complete", answered: 2, failed: 1, unanswered: 0, merged: 1 });
		expect(came.get("bob")?.reply?.data).toBe(2);
		expect(came.get("eve")?.error).toMatchObject({ name: "RemoteError", message: "no" });
		expect(came.get("nobody")?.error).toMatchObject({ reason: "NO_ROUTE" });
		await bob.messages.handle("wait", () => "here").ready;
		for await (const { source } of ada.messages.requestMany(["bob", "eve"], "wait")) {
			expect(source).toBe("bob");
			break;
		}
		await until(() => given === 1);
		await bob.messages.subscribeTopic("t");
		const replies = [];
		for await (const { reply } of ada.messages.requestMany({ topic: "t" }, "ask", 4)) replies.push(reply?.data);
		expect(replies).toEqual([5]);
		await expect(ada.messages.requestMany({ topic: "nobody" }, "ask").next()).rejects.toMatchObject({
			reason: "RECIPIENT_UNAVAILABLE",
		});
		await expect(
			ada.messages.requestMany(["bob"], "ask", 1, { signal: AbortSignal.abort() }).next(),
		).rejects.toMatchObject({ reason: "CANCELLED" });
	});
});
