import { expect, it } from "vitest";
import { Durability, MessageKind } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { FanOutResult } from "#gen/qirvo/hub/v1/topics_pb.js";
import type { Middleware, MiddlewareVerdict } from "../../src/messaging/middleware.ts";
import { ALL_GRANTS, describeHubs, type TestHub, until } from "../harness/hub.ts";
import { Inbox } from "../harness/inbox.ts";

const GRANTS = { ...ALL_GRANTS, publishTopics: ["**"], subscribeTopics: ["**"], broadcast: true };
const transient = Durability.TRANSIENT;
const pass: MiddlewareVerdict = { kind: "pass" };
const answer: MiddlewareVerdict = { kind: "answer", reply: { success: true } };
const json = (value: unknown) => ({ body: { case: "json", value: JSON.stringify(value) } }) as const;
const reasonsOf = (result: FanOutResult | undefined) =>
	Object.fromEntries(result!.reasons.map(({ reason, count }) => [reason, count]));

function middleware(name: string, inspect: Middleware["inspect"], more: Partial<Middleware> = {}): Middleware {
	return { name, onFailure: "closed", inspect, ...more };
}

/** A publisher, and plugins that are attached and subscribed to `t`. */
async function world(hub: TestHub, ...ids: string[]) {
	const pub = await hub.enrol("pub", GRANTS);
	const inboxes: Record<string, Inbox> = {};
	for (const id of ids) {
		const clients = await hub.enrol(id, GRANTS);
		await clients.messaging.subscribeTopic({ pattern: "t" });
		inboxes[id] = await Inbox.open(clients);
	}
	const publish = async (id: string, durability = Durability.DURABLE) => {
		const message = { type: "news", id, attributes: { a: "1" }, payload: json("old") };
		return (await pub.messaging.publish({ topic: "t", message, durability })).result!;
	};
	const broadcast = async (id: string) => (await pub.messaging.broadcast({ event: "news", id })).result!;
	return { pub, inboxes, publish, broadcast };
}

describeHubs("middleware and a message for many", (start) => {
	it("passes, changes and refuses each copy on its own, under the one id", async () => {
		const seen: string[] = [];
		const verdicts: Record<string, MiddlewareVerdict> = {
			changed: { kind: "change", payload: json("new"), attributes: { a: undefined, b: "2" } },
			refused: { kind: "refuse", reason: "not for you" },
		};
		const judge = middleware("judge", ({ id, kind, topic, recipient }, { from, to }) => {
			seen.push(`${from}>${to} ${recipient} ${id} ${kind} ${topic}`);
			return verdicts[to] ?? pass;
		});
		await using hub = await start({ middleware: [judge], readsAudit: true });
		const { inboxes, publish, broadcast } = await world(hub, "plain", "changed", "refused");
		const first = await publish("p-1");
		expect(first).toMatchObject({ id: "p-1", delivered: 2, queued: 0, skipped: 1, duplicate: false });
		expect(reasonsOf(first)).toEqual({ MESSAGE_REFUSED: 1 });
		expect(await publish("p-1")).toMatchObject({ delivered: 2, skipped: 1, duplicate: true });
		expect(await publish("p-2", transient)).toMatchObject({ delivered: 2, skipped: 1, duplicate: false });
		expect(await publish("p-2", transient)).toMatchObject({ delivered: 2, skipped: 1, duplicate: true });
		expect(await broadcast("b-1")).toMatchObject({ delivered: 2, skipped: 1 });
		for (const id of ["plain", "changed"]) {
			await inboxes[id]!.came(3);
			expect(inboxes[id]!.ids).toEqual(["p-1", "p-2", "b-1"]);
		}
		expect(inboxes.refused!.ids).toEqual([]);
		expect(inboxes.plain!.messages[0]).toMatchObject({ attributes: { a: "1" }, payload: json("old") });
		expect(inboxes.changed!.messages[0]).toMatchObject({
			kind: MessageKind.PUBLICATION,
			topic: "t",
			source: "pub",
			recipient: "changed",
			payload: json("new"),
		});
		expect(inboxes.changed!.messages[0]!.attributes).toEqual({ b: "2", "hub-middleware": "judge" });
		expect(inboxes.changed!.messages[2]).toMatchObject({ kind: MessageKind.BROADCAST, payload: json("new") });
		expect(seen.slice(0, 3).toSorted()).toEqual([
			`pub>changed changed p-1 ${MessageKind.PUBLICATION} t`,
			`pub>plain plain p-1 ${MessageKind.PUBLICATION} t`,
			`pub>refused refused p-1 ${MessageKind.PUBLICATION} t`,
		]);
		await until(async () => (await hub.recorded("denials")).length === 4);
		expect((await hub.recorded("denials"))[0]).toMatchObject({
			event: "message_denied",
			actor: "plugin:pub",
			target: "topic:t",
			reason: "message_refused",
			details: { recipients: "1", first_recipient: "refused", message: "not for you" },
		});
	});

	it("that answers, throws or is late lets the copy pass or refuses it, as it declared", async () => {
		const faults: Record<string, Middleware["inspect"]> = {
			answers: () => answer,
			throws: () => {
				throw new Error("a fault");
			},
			late: () => new Promise<MiddlewareVerdict>(() => {}),
		};
		const middlewares = Object.entries(faults).flatMap(([name, inspect]) =>
			(["open", "closed"] as const).map((onFailure) =>
				middleware(`${name}-${onFailure}`, inspect, {
					recipients: [`${name}-${onFailure}`],
					onFailure,
					deadlineMs: 30,
				}),
			),
		);
		await using hub = await start({ middleware: middlewares });
		const names = Object.keys(faults);
		const open = names.map((name) => `${name}-open`);
		const { inboxes, publish, broadcast } = await world(
			hub,
			...open,
			...names.map((name) => `${name}-closed`),
			"other",
		);
		for (const send of [() => publish("p-1"), () => publish("p-2", transient), () => broadcast("b-1")]) {
			const result = await send();
			expect(result).toMatchObject({ delivered: 4, queued: 0, skipped: 3, merged: 0 });
			expect(reasonsOf(result)).toEqual({ MIDDLEWARE_UNAVAILABLE: 3 });
		}
		for (const id of [...open, "other"]) {
			await inboxes[id]!.came(3);
			expect([id, inboxes[id]!.ids]).toEqual([id, ["p-1", "p-2", "b-1"]]);
		}
		for (const name of names) expect(inboxes[`${name}-closed`]!.ids).toEqual([]);
	});

	it("keeps each recipient's order, however long the verdicts take, and goes on where the sender left", async () => {
		const waiting = new Map<string, () => void>();
		const slow = middleware(
			"slow",
			({ id }) => (id === "late" ? pass : new Promise((resolve) => waiting.set(id, () => resolve(pass)))),
			{ recipients: ["slow"], deadlineMs: 5000 },
		);
		await using hub = await start({ middleware: [slow] });
		const { pub, inboxes, publish } = await world(hub, "slow", "fast");
		const first = publish("1", transient);
		await until(() => waiting.size === 1);
		const gone = new AbortController();
		const message = { type: "news", id: "2" };
		const second = pub.messaging.publish({ topic: "t", message, durability: transient }, { signal: gone.signal });
		await until(() => waiting.size === 2);
		gone.abort();
		await expect(second).rejects.toThrow();
		const third = publish("late", transient);
		await inboxes.fast!.came(3);
		expect(inboxes.fast!.ids).toEqual(["1", "2", "late"]);
		waiting.get("2")!();
		expect(inboxes.slow!.ids).toEqual([]);
		waiting.get("1")!();
		expect(await first).toMatchObject({ delivered: 2 });
		expect(await third).toMatchObject({ delivered: 2 });
		await inboxes.slow!.came(3);
		expect(inboxes.slow!.ids).toEqual(["1", "2", "late"]);
	});

	it("sees the copy that routes lead on, with the plugin that they lead to", async () => {
		const shown: string[] = [];
		const watch = middleware("watch", (_, { to }) => {
			shown.push(to);
			return to === "b" ? { kind: "change", attributes: { seen: "yes" } } : pass;
		});
		await using hub = await start({ middleware: [watch] });
		const { inboxes, publish } = await world(hub, "a", "b");
		inboxes.log = await Inbox.open(await hub.enrol("log", GRANTS));
		const match = { address: { case: "recipient", value: "a" } } as const;
		await hub.operator.messaging.putRoute({
			route: { name: "to-b", match, action: { case: "redirect", value: "b" } },
		});
		const mirror = { address: { case: "recipient", value: "b" } } as const;
		await hub.operator.messaging.putRoute({
			route: { name: "to-log", match: mirror, action: { case: "mirror", value: "log" } },
		});
		expect(await publish("p-1")).toMatchObject({ delivered: 1, merged: 1 });
		await inboxes.log.came(1);
		expect(shown).toEqual(["b"]);
		expect(inboxes.log.messages).toMatchObject([
			{ id: "p-1", attributes: { seen: "yes", "hub-middleware": "watch", "hub-mirror": "to-log" } },
		]);
	});
});
