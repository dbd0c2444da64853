import { expect, it } from "vitest";
import { Durability } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { Middleware } from "../../src/messaging/middleware.ts";
import { ALL_GRANTS, describeHubs, type TestHub, until } from "../harness/hub.ts";
import { Inbox } from "../harness/inbox.ts";
import { setOf } from "../harness/store-values.ts";

/** What `/metrics` says of the metrics without labels. */
async function metricsOf(hub: TestHub): Promise<Readonly<Record<string, number>>> {
	const text = await (await fetch(`${hub.url}/metrics`, { headers: { connection: "close" } })).text();
	const lines = text.split("\n").filter((line) => /^hub_\w+ /.test(line));
	return Object.fromEntries(lines.map((line) => line.split(" ")).map(([name, value]) => [name, Number(value)]));
}

describeHubs("metrics", (start) => {
	it("count calls, events and messages, without a label that a caller chooses", async () => {
		await using hub = await start();
		const writer = await hub.enrol("metrics-writer");
		await writer.events.emit({ event: { type: "metrics.kept" } });
		await expect(writer.events.emit({ event: { type: "a..b" } })).rejects.toThrow("event.type");
		const text = await (await fetch(`${hub.url}/metrics`, { headers: { connection: "close" } })).text();
		const lane = text.includes('lane="fast",code="OK"') ? "fast" : "connect";
		const emit = `hub_rpc_calls_total{method="/qirvo.hub.v1.EventService/Emit",lane="${lane}",code=`;
		expect(text).toContain(`${emit}"OK"} 1`);
		expect(text).toContain(`${emit}"INVALID_ARGUMENT"} 1`);
		expect(text).toMatch(/^hub_plugins 1$/m);
		expect(text).toMatch(/^# TYPE hub_events_total counter$/m);
		expect(text).toMatch(/^hub_messages_refused_full_total 0$/m);
		expect(text).toMatch(/^hub_store_writes_waiting 0$/m);
		expect(text).not.toContain("metrics-writer");
		expect(text).not.toContain("metrics.kept");
	});

	it("tell what waits, for how long, what is delivered again or given up, what middleware says and what mirrors lose", async () => {
		const verdicts: Middleware["inspect"] = ({ type }) => {
			if (type === "refuse") return { kind: "refuse", reason: "no" };
			if (type === "answer") return { kind: "answer", reply: { success: true } };
			if (type === "change") return { kind: "change", attributes: { a: "1" } };
			if (type === "fail") throw new Error("a fault");
			return type === "late" ? new Promise(() => {}) : { kind: "pass" };
		};
		const judge: Middleware = { name: "judge", onFailure: "open", deadlineMs: 20, inspect: verdicts };
		await using hub = await start({ middleware: [judge] });
		const grants = { ...ALL_GRANTS, publishTopics: ["**"], subscribeTopics: ["**"] };
		const alice = await hub.enrol("alice", grants);
		const [bob, carol] = [await hub.enrol("bob", grants), await hub.enrol("carol", grants)];
		for (const plugin of [bob, carol]) await plugin.messaging.subscribeTopic({ pattern: "t" });
		const to = { target: { case: "pluginId", value: "bob" } } as const;
		const send = (type: string) => alice.messaging.send({ to, message: { type } });
		await send("pass");
		await send("change");
		await until(async () => ((await metricsOf(hub)).hub_durable_oldest_seconds ?? 0) > 0);
		expect(await metricsOf(hub)).toMatchObject({
			hub_mailbox_messages: 2,
			hub_durable_messages: 2,
			hub_messages_sent_total: 2,
			hub_messages_delivered_total: 0,
		});
		expect((await metricsOf(hub)).hub_mailbox_bytes).toBeGreaterThan(0);
		const frames = bob.messaging.receive({})[Symbol.asyncIterator]();
		const ready = await frames.next();
		const batch = await frames.next();
		const sessionId = ready.value?.frame.case === "ready" ? ready.value.frame.value.id : "";
		const [first, second] = batch.value?.frame.case === "batch" ? batch.value.frame.value.deliveries : [];
		await bob.messaging.acknowledge({
			sessionId,
			deliveries: [
				{ deliveryId: first!.deliveryId, outcome: { case: "negative", value: { delay: {} } } },
				{ deliveryId: second!.deliveryId, outcome: { case: "terminate", value: { reason: "no" } } },
			],
		});
		await frames.next();
		await frames.return?.();
		expect(await metricsOf(hub)).toMatchObject({
			hub_messages_delivered_total: 3,
			hub_messages_redelivered_total: 1,
			hub_dead_letters: 1,
			hub_dead_letters_total: 1,
			hub_dead_letters_dropped_total: 0,
		});
		const { messaging } = hub.operator;
		const match = { address: { case: "recipient", value: "bob" } } as const;
		for (const [name, value] of [
			["lost", "nobody"],
			["kept", "carol"],
		] as const) {
			await messaging.putRoute({ route: { name, match, action: { case: "mirror", value } } });
		}
		const inbox = await Inbox.open(carol);
		await send("late");
		await send("fail");
		await inbox.came(2);
		await expect(send("refuse")).rejects.toThrow();
		expect((await alice.messaging.request({ to, message: { type: "answer" } })).source).toBe("judge");
		const route = { name: "away", match, priority: 1, action: { case: "redirect", value: "carol" } } as const;
		await messaging.putRoute({ route });
		const message = { type: "pass" };
		await alice.messaging.publish({ topic: "t", message, durability: Durability.TRANSIENT });
		await until(async () => (await metricsOf(hub)).hub_middleware_inspecting === 0);
		expect(await metricsOf(hub)).toMatchObject({
			hub_routes: 3,
			hub_messages_mirrored_total: 2,
			hub_messages_mirror_lost_total: 2,
			hub_messages_published_total: 1,
			hub_messages_merged_total: 1,
			hub_middleware_passed_total: 2,
			hub_middleware_changed_total: 1,
			hub_middleware_answered_total: 1,
			hub_middleware_refused_total: 1,
			hub_middleware_late_total: 1,
			hub_middleware_failed_total: 1,
		});
	});

	it("show single stores to operators alone, a hundred of them, and count no refusals for want of a right", async () => {
		await using hub = await start();
		const { stores } = await hub.enrol("owner");
		const spy = await hub.enrol("spy");
		const read = async (token: string): Promise<string> => {
			const headers = { connection: "close", ...(token !== "" && { authorization: `Bearer ${token}` }) };
			return await (await fetch(`${hub.url}/metrics`, { headers })).text();
		};
		await stores.createStore({ name: "secret" });
		await stores.set({ set: setOf("secret", "k", 1) });
		await stores.get({ store: "secret", key: "k" });
		const shown = await read(hub.operator.token);
		expect(shown).toMatch(/^hub_one_store_keys\{store="secret"\} 1$/m);
		expect(shown).toMatch(/^hub_one_store_gets_total\{store="secret"\} 1$/m);
		await expect(spy.stores.get({ store: "secret", key: "k" })).rejects.toThrow("there is no store");
		expect(await read(hub.operator.token)).toMatch(/^hub_one_store_gets_total\{store="secret"\} 1$/m);
		for (const token of ["", spy.token]) {
			const open = await read(token);
			expect(open).toMatch(/^hub_store_gets_total 1$/m);
			expect(open).toMatch(/^hub_stores 1$/m);
			expect(open).not.toContain("secret");
		}
		const other = await hub.enrol("other");
		for (let index = 0; index < 110; index++) {
			const owner = index < 90 ? stores : other.stores;
			await owner.createStore({ name: `s-${index}`, config: { persistent: false } });
		}
		const series = async () =>
			(await read(hub.operator.token)).split("\n").filter((line) => line.startsWith("hub_one_store_keys{"));
		expect(await series()).toHaveLength(100);
		await stores.deleteStore({ name: "secret" });
		expect(await series()).toHaveLength(100);
		// What a store that is gone had counted stays in the totals.
		expect(await read("")).toMatch(/^hub_store_gets_total 1$/m);
	});
});
