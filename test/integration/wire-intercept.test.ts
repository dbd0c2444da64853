import type { MessageInitShape } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import {
	type AttachRequestSchema,
	type AttachResponse,
	Durability,
	FailureMode,
	type Inspection,
	type InterceptOpenSchema,
	type InterceptRequestSchema,
	type InterceptResponse,
	MessageKind,
	type VerdictSchema,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { failureOf } from "../harness/failure.ts";
import { Feed } from "../harness/feed.ts";
import { ALL_GRANTS, type Clients, describeHubs, type TestHub, until } from "../harness/hub.ts";
import { Outbox } from "../harness/outbox.ts";

type Up = MessageInitShape<typeof AttachRequestSchema>;
type InterceptUp = MessageInitShape<typeof InterceptRequestSchema>;
type Outcome = MessageInitShape<typeof VerdictSchema>["outcome"];

const to = (value: string) => ({ target: { case: "pluginId", value } }) as const;
const json = (value: unknown) => ({ body: { case: "json", value: JSON.stringify(value) } }) as const;
const pass: Outcome = { case: "pass", value: true };
const transient = Durability.TRANSIENT;
const fiveSeconds = { seconds: 5n };

async function attach(clients: Clients) {
	const up = new Outbox<Up>({ frame: { case: "open", value: { maxInFlight: 10_000 } } });
	const down = new Feed<AttachResponse>(clients.messaging.attach(up));
	await down.first("ready");
	const messages = () => down.all("batch").flatMap(({ deliveries }) => deliveries.map(({ message }) => message!));
	return { messages, received: (count: number) => down.when(() => messages().length === count) };
}

/** A plugin that may intercept. */
async function trusted(hub: TestHub, pluginId: string): Promise<Clients> {
	const clients = await hub.enrol(pluginId);
	await hub.operator.admin.setTrustLevel({ pluginId, trustLevel: 3 });
	await hub.operator.admin.setPermissions({ pluginId, permissions: { ...ALL_GRANTS, intercept: true } });
	return clients;
}

/** An interceptor whose verdicts `judge` gives; undefined: none. */
async function intercept(
	clients: Clients,
	open: Omit<MessageInitShape<typeof InterceptOpenSchema>, "$typeName" | "$unknown">,
	judge: (inspection: Inspection) => Outcome | undefined = () => pass,
) {
	const value = { name: "check", types: ["**"], deadline: fiveSeconds, failureMode: FailureMode.CLOSED, ...open };
	const up = new Outbox<InterceptUp>({ frame: { case: "open", value } } as InterceptUp);
	const controller = new AbortController();
	const answer = (inspectionId: bigint, outcome: Outcome) =>
		up.push({ frame: { case: "verdicts", value: { verdicts: [{ inspectionId, outcome }] } } });
	async function* judged(frames: AsyncIterable<InterceptResponse>) {
		for await (const response of frames) {
			yield response;
			if (response.frame.case !== "batch") continue;
			for (const inspection of response.frame.value.inspections) {
				const outcome = judge(inspection);
				if (outcome !== undefined) answer(inspection.inspectionId, outcome);
			}
		}
	}
	const down = new Feed<InterceptResponse>(judged(clients.messaging.intercept(up, { signal: controller.signal })));
	await down.first("ready");
	const shown = () => down.all("batch").flatMap(({ inspections }) => inspections);
	return { up, down, shown, answer, crash: () => controller.abort() };
}

describeHubs("an interceptor", (start) => {
	it("passes, changes, answers and refuses what is in its scope, but nothing of its own", async () => {
		await using hub = await start({ readsAudit: true });
		const [alice, bob, carol] = [await hub.enrol("alice"), await hub.enrol("bob"), await hub.enrol("carol")];
		const judge = await trusted(hub, "judge");
		const inbox = await attach(bob);
		const outcomes: Record<string, Outcome> = {
			"do.pass": pass,
			"do.change": {
				case: "change",
				value: { payload: json("new"), attributes: { b: "2" }, removeAttributes: ["a"] },
			},
			"do.refuse": { case: "refuse", value: { reason: "not this one" } },
			"do.answer": { case: "answer", value: { success: true, data: json("from the judge") } },
			"do.nothing": { case: undefined },
			"do.reserved": { case: "change", value: { attributes: { "hub-x": "1" } } },
		};
		const interceptor = await intercept(
			judge,
			{ types: ["do.*"], senders: ["alice", "judge"], recipients: ["bob"] },
			({ message }) => outcomes[message!.type],
		);
		const send = (from: Clients, type: string, more: object = {}) =>
			from.messaging.send({ to: to("bob"), message: { type, ...more }, durability: transient });
		await send(alice, "do.pass", { id: "1" });
		await send(alice, "do.change", { id: "2", attributes: { a: "1", c: "3" }, payload: json("old") });
		await send(alice, "other", { id: "3" });
		await send(carol, "do.refuse", { id: "4" });
		await send(judge, "do.refuse", { id: "5" });
		expect(await failureOf(send(alice, "do.refuse"))).toMatchObject({
			reason: "MESSAGE_REFUSED",
			message: "not this one",
			metadata: { middleware: "judge" },
		});
		for (const type of ["do.nothing", "do.answer", "do.reserved"]) {
			expect(await failureOf(send(alice, type))).toMatchObject({ reason: "MIDDLEWARE_UNAVAILABLE" });
		}
		const asked = await alice.messaging.request({ to: to("bob"), message: { type: "do.answer", id: "r" } });
		expect(asked).toMatchObject({ id: "r", source: "judge", reply: { success: true, data: json("from the judge") } });
		await inbox.received(5);
		expect(inbox.messages().map(({ id }) => id)).toEqual(["1", "2", "3", "4", "5"]);
		expect(inbox.messages()[1]).toMatchObject({ payload: json("new"), source: "alice" });
		expect(inbox.messages()[1]!.attributes).toEqual({ b: "2", c: "3", "hub-middleware": "judge" });
		expect(interceptor.shown().map(({ message }) => message!.type)).toEqual([
			"do.pass",
			"do.change",
			"do.refuse",
			"do.nothing",
			"do.answer",
			"do.reserved",
			"do.answer",
		]);
		expect(interceptor.shown()[0]!.message).toMatchObject({ id: "1", source: "alice", recipient: "bob" });
		expect(interceptor.shown().at(-1)!.message!.requiresResponse).toBe(true);
		const denied = async () => (await hub.recorded("denials")).filter(({ event }) => event === "message_denied");
		await until(async () => (await denied()).length === 1);
		expect(await denied()).toMatchObject([
			{
				event: "message_denied",
				actor: "plugin:alice",
				target: "plugin:bob",
				reason: "message_refused",
				details: { middleware: "judge", message: "not this one" },
			},
		]);
		interceptor.up.push({ frame: { case: "withdraw", value: {} } });
		await interceptor.down.ended;
		expect(interceptor.down.failure).toBeUndefined();
		await send(alice, "do.refuse");
	});

	it("is for plugins with the grant and the trust, and well described", async () => {
		await using hub = await start();
		const plain = await hub.enrol("plain");
		const judge = await trusted(hub, "judge");
		const refusal = async (clients: Clients, open: object) => {
			const value = { name: "x", types: ["a"], failureMode: FailureMode.OPEN, ...open };
			const feed = new Feed(clients.messaging.intercept(new Outbox<InterceptUp>({ frame: { case: "open", value } })));
			await feed.ended;
			return feed.failure;
		};
		expect(await refusal(plain, {})).toMatchObject({ code: "PermissionDenied", reason: "INSUFFICIENT_PERMISSIONS" });
		expect(await refusal(hub.operator, {})).toMatchObject({ reason: "CALLER_NOT_ALLOWED" });
		const bad: [object, string][] = [
			[{ name: "-" }, "open.name"],
			[{ order: 1001 }, "open.order"],
			[{ types: [] }, "open.types"],
			[{ types: ["a.**.b"] }, "open.types[0]"],
			[{ senders: ["-"] }, "open.senders[0]"],
			[{ deadline: { seconds: 6n } }, "open.deadline"],
			[{ failureMode: 0 }, "open.failure_mode"],
			[{ maxInFlight: 10_001 }, "open.max_in_flight"],
		];
		for (const [open, field] of bad) expect((await refusal(judge, open))?.fields).toEqual([field]);
		await hub.operator.admin.setTrustLevel({ pluginId: "judge", trustLevel: 2 });
		expect(await refusal(judge, {})).toMatchObject({ reason: "INSUFFICIENT_TRUST_LEVEL" });
	});

	it("has no more in flight than its credit, which it may change", async () => {
		await using hub = await start();
		const [alice, bob, judge] = [await hub.enrol("alice"), await hub.enrol("bob"), await trusted(hub, "judge")];
		const inbox = await attach(bob);
		const { up, shown, answer } = await intercept(judge, { maxInFlight: 2 }, () => undefined);
		const send = (id: string) =>
			alice.messaging.send({ to: to("bob"), message: { type: "a", id }, durability: transient });
		const first = [send("1"), send("2"), send("3"), send("4"), send("5")];
		const seen = async (count: number) => {
			await until(() => shown().length >= count);
			// A later call on the connection has been answered: what would have been shown too many is there.
			await judge.hub.getHubInfo({});
			expect(shown()).toHaveLength(count);
		};
		await seen(2);
		answer(shown()[0]!.inspectionId, pass);
		await seen(3);
		up.push({ frame: { case: "credit", value: { maxInFlight: 3 } } });
		await seen(4);
		up.push({ frame: { case: "credit", value: { maxInFlight: 0 } } });
		for (const { inspectionId } of shown()) answer(inspectionId, pass);
		await inbox.received(4);
		await seen(4);
		up.push({ frame: { case: "credit", value: { maxInFlight: 1 } } });
		await seen(5);
		answer(shown()[4]!.inspectionId, pass);
		await Promise.all(first);
		await inbox.received(5);
	});

	it("that is late lets pass or refuses as it declared, and has no more in flight than it takes", async () => {
		await using hub = await start();
		const [alice, bob, judge] = [await hub.enrol("alice"), await hub.enrol("bob"), await trusted(hub, "judge")];
		const inbox = await attach(bob);
		const short = { nanos: 40_000_000 };
		const open = { name: "open", types: ["open"], deadline: short, failureMode: FailureMode.OPEN, maxInFlight: 2 };
		const lenient = await intercept(judge, open, () => undefined);
		await intercept(judge, { name: "closed", types: ["closed"], deadline: short }, () => undefined);
		const send = (type: string) => alice.messaging.send({ to: to("bob"), message: { type }, durability: transient });
		expect(await failureOf(send("closed"))).toMatchObject({ code: "Unavailable", reason: "MIDDLEWARE_UNAVAILABLE" });
		await Promise.all(Array.from({ length: 5 }, () => send("open")));
		expect(lenient.shown().length).toBeLessThanOrEqual(4);
		await inbox.received(5);
	});

	it("that crashes keeps messages back where it fails closed, until it is back or revoked", async () => {
		await using hub = await start();
		const [alice, bob, judge] = [await hub.enrol("alice"), await hub.enrol("bob"), await trusted(hub, "judge")];
		const inbox = await attach(bob);
		const send = (type: string) => alice.messaging.send({ to: to("bob"), message: { type }, durability: transient });
		const open = await intercept(judge, { name: "o", types: ["open"], failureMode: FailureMode.OPEN }, () => undefined);
		const closed = await intercept(judge, { name: "c", types: ["closed"] }, () => undefined);
		const [passes, fails] = [send("open"), failureOf(send("closed"))];
		await until(() => open.shown().length === 1 && closed.shown().length === 1);
		open.crash();
		closed.crash();
		await passes;
		expect(await fails).toMatchObject({ reason: "MIDDLEWARE_UNAVAILABLE" });
		await send("open");
		expect(await failureOf(send("closed"))).toMatchObject({ reason: "MIDDLEWARE_UNAVAILABLE" });
		const back = await intercept(judge, { name: "c", types: ["closed"] });
		await send("closed");
		const again = await intercept(judge, { name: "c", types: ["closed"] });
		await back.down.ended;
		expect(back.down.failure).toMatchObject({ reason: "LIMIT_EXCEEDED" });
		await send("closed");
		await inbox.received(4);
		const before = performance.now();
		await hub.operator.admin.setPermissions({ pluginId: "judge", permissions: ALL_GRANTS });
		await again.down.ended;
		expect(performance.now() - before).toBeLessThan(1000);
		expect(again.down.cases).toContain("revoked");
		expect(again.down.failure).toMatchObject({ code: "PermissionDenied", reason: "PERMISSION_REVOKED" });
		await send("closed");
		await inbox.received(5);
	});

	it("is shown each recipient's copy of a message for many, and its verdict is for that one", async () => {
		await using hub = await start();
		const grants = { ...ALL_GRANTS, publishTopics: ["**"], subscribeTopics: ["**"], broadcast: true };
		const [alice, bob, carol] = [
			await hub.enrol("alice", grants),
			await hub.enrol("bob", grants),
			await hub.enrol("carol", grants),
		];
		const judge = await trusted(hub, "judge");
		for (const plugin of [bob, carol]) await plugin.messaging.subscribeTopic({ pattern: "t" });
		const [inbox, other] = [await attach(bob), await attach(carol)];
		const change: Outcome = { case: "change", value: { attributes: { seen: "yes" } } };
		const refuse: Outcome = { case: "refuse", value: { reason: "no" } };
		const answer: Outcome = { case: "answer", value: { success: true } };
		const interceptor = await intercept(judge, { types: ["do.*"], recipients: ["bob", "carol"] }, ({ message }) => {
			if (message!.recipient === "bob") return change;
			return message!.type === "do.answer" ? answer : refuse;
		});
		const message = { type: "do.refuse", id: "p-1" };
		const published = (await alice.messaging.publish({ topic: "t", message })).result!;
		expect(published).toMatchObject({ delivered: 1, skipped: 1, reasons: [{ reason: "MESSAGE_REFUSED", count: 1 }] });
		const told = (await alice.messaging.broadcast({ event: "do.answer" })).result!;
		expect(told.reasons.find(({ reason }) => reason === "MIDDLEWARE_UNAVAILABLE")).toMatchObject({ count: 1 });
		await inbox.received(2);
		expect(inbox.messages()[0]).toMatchObject({ id: "p-1", attributes: { seen: "yes", "hub-middleware": "judge" } });
		expect(other.messages()).toEqual([]);
		expect(interceptor.shown()[0]!.message).toMatchObject({ id: "p-1", kind: MessageKind.PUBLICATION, topic: "t" });
		const asked = new Feed(
			alice.messaging.requestMany({
				to: [to("bob"), to("carol")],
				message: { type: "do.answer", id: "r-1" },
				maxReplies: 1,
			}),
		);
		await asked.ended;
		expect(asked.all("replies").flatMap(({ replies }) => replies)).toMatchObject([{ id: "r-1", source: "judge" }]);
	});

	it("stands in order with the others", async () => {
		await using hub = await start();
		const [alice, bob] = [await hub.enrol("alice"), await hub.enrol("bob")];
		const inbox = await attach(bob);
		const change = (name: string): Outcome => ({ case: "change", value: { attributes: { last: name } } });
		for (const [order, name] of ["third", "first", "second"].entries()) {
			await intercept(await trusted(hub, name), { order: [3, 1, 2][order]! }, () => change(name));
		}
		await alice.messaging.send({ to: to("bob"), message: { type: "a" } });
		await inbox.received(1);
		expect(inbox.messages()[0]!.attributes).toEqual({ last: "third", "hub-middleware": "first,second,third" });
	});
});
