import type { MessageInitShape } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import {
	type AttachRequestSchema,
	type AttachResponse,
	Disposition,
	Durability,
	Priority,
	type ReceiveResponse,
	type SendStreamRequestSchema,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { failureOf } from "../harness/failure.ts";
import { Feed } from "../harness/feed.ts";
import { ALL_GRANTS, type Clients, describeHubs, until } from "../harness/hub.ts";
import { Outbox } from "../harness/outbox.ts";

type Up = MessageInitShape<typeof AttachRequestSchema>;
type SendUp = MessageInitShape<typeof SendStreamRequestSchema>;

const to = (pluginId: string) => ({ target: { case: "pluginId", value: pluginId } }) as const;
const text = (value: string) => ({ body: { case: "json", value: JSON.stringify(value) } }) as const;
const message = (type: string, more: object = {}) => ({ type, ...more });
const transient = Durability.TRANSIENT;

/** A plugin's receiving session, once it is open. */
async function attach(plugin: Clients, open: { instanceId?: string; maxInFlight?: number } = {}) {
	const up = new Outbox<Up>({ frame: { case: "open", value: open } });
	const down = new Feed(plugin.messaging.attach(up));
	await down.first("ready");
	const settle = (...deliveries: { deliveryId: string; outcome: object }[]) =>
		up.push({ frame: { case: "settlement", value: { deliveries } } } as Up);
	const acknowledge = (deliveryId: string) => settle({ deliveryId, outcome: { case: "acknowledge", value: true } });
	const reply = (deliveryId: string, content: object) =>
		up.push({ frame: { case: "reply", value: { deliveryId, reply: content } } } as Up);
	return { up, down, settle, acknowledge, reply };
}

const deliveriesOf = (feed: Feed<AttachResponse> | Feed<ReceiveResponse>) =>
	(feed as Feed<AttachResponse>).all("batch").flatMap(({ deliveries }) => deliveries);
const typesOf = (feed: Feed<AttachResponse>) => deliveriesOf(feed).map((delivery) => delivery.message?.type);

describeHubs("a message", (start) => {
	it("arrives once, with what its sender gave and what the hub stamps", async () => {
		await using hub = await start();
		const [sender, receiver] = [await hub.enrol("sender"), await hub.enrol("receiver")];
		const { down, acknowledge } = await attach(receiver);
		const sent = {
			id: "m-1",
			type: "note:new",
			time: { seconds: 1_700_000_000n, nanos: 1 },
			priority: Priority.HIGH,
			idempotent: true,
			orderingKey: "k",
			attributes: { traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" },
			payload: { ...text("hi"), schema: "urn:note" },
		};
		const request = { to: to("receiver"), message: sent, durability: transient };
		expect(await sender.messaging.send(request)).toMatchObject({
			id: "m-1",
			disposition: Disposition.DELIVERED,
			duplicate: false,
		});
		expect(await sender.messaging.send(request)).toMatchObject({ id: "m-1", duplicate: true });
		expect(await failureOf(sender.messaging.send({ ...request, message: { ...sent, type: "other" } }))).toMatchObject({
			code: "Aborted",
			reason: "ID_REUSED",
		});
		await down.first("batch");
		expect(deliveriesOf(down)).toMatchObject([
			{ message: { ...sent, source: "sender", recipient: "receiver", requiresResponse: false, attempt: 1 } },
		]);
		acknowledge(deliveriesOf(down)[0]!.deliveryId);
		acknowledge("999");
		const { failures } = await down.first("failures");
		expect(failures).toMatchObject([{ deliveryId: "999", error: { code: 5, reason: "DELIVERY_NOT_FOUND" } }]);
		expect(deliveriesOf(down)).toHaveLength(1);
	});

	it("is refused for want of a permission, a route or a receiver, each with its own reason", async () => {
		await using hub = await start();
		const sender = await hub.enrol("sender", { sendTo: ["idle", "deaf", "nobody", "shut", "trusted"] });
		for (const id of ["idle", "other", "shut", "trusted"]) await hub.enrol(id);
		await hub.enrol("deaf", { ...ALL_GRANTS, receiveFrom: ["other"] });
		await hub.operator.plugins.disable({ pluginId: "shut" });
		await hub.operator.admin.setTrustLevel({ pluginId: "trusted", trustLevel: 3 });
		const cases: [string, string, string][] = [
			["other", "PermissionDenied", "NO_SEND_PERMISSION"],
			["unknown", "PermissionDenied", "NO_SEND_PERMISSION"],
			["nobody", "NotFound", "NO_ROUTE"],
			["idle", "Unavailable", "RECIPIENT_UNAVAILABLE"],
			["deaf", "PermissionDenied", "RECIPIENT_CANNOT_RECEIVE"],
			["shut", "FailedPrecondition", "PLUGIN_DISABLED"],
			["trusted", "PermissionDenied", "TRUST_LEVEL_MISMATCH"],
		];
		const requests = new Outbox<SendUp>();
		const results = new Feed(sender.messaging.sendStream(requests));
		requests.push({
			frame: {
				case: "batch",
				value: {
					entries: cases.map(([recipient], index) => ({
						entryId: BigInt(index),
						to: to(recipient),
						message: message("a.b"),
						durability: transient,
					})),
				},
			},
		});
		for (const [recipient, code, reason] of cases) {
			const call = { to: to(recipient), message: message("a.b") };
			expect(await failureOf(sender.messaging.send({ ...call, durability: transient }))).toMatchObject({
				code,
				reason,
			});
			expect(await failureOf(sender.messaging.request(call))).toMatchObject({ code, reason });
		}
		await results.when(() => results.all("results").flatMap((batch) => batch.results).length === cases.length);
		const entries = results.all("results").flatMap((batch) => batch.results);
		expect(entries.map(({ entryId, outcome }) => [entryId, outcome.case === "error" && outcome.value.reason])).toEqual(
			cases.map(([, , reason], index) => [BigInt(index), reason]),
		);
		const idle = { to: to("idle"), message: message("a.b") };
		// What is absent means durable, which waits for whoever comes.
		expect(await sender.messaging.send(idle)).toMatchObject({ disposition: Disposition.QUEUED });
		for (const target of [
			{ case: "capability", value: "tea.pour" },
			{ case: "alias", value: "tea" },
		] as const) {
			expect(await failureOf(sender.messaging.request({ to: { target }, message: message("a.b") }))).toMatchObject({
				reason: expect.stringMatching(/^(NO_ROUTE|NO_SEND_PERMISSION)$/),
			});
		}
	});

	it("waits while its recipient is busy; higher priorities go first and a full mailbox refuses", async () => {
		await using hub = await start();
		const [sender, receiver] = [await hub.enrol("sender"), await hub.enrol("receiver")];
		const { up, down, acknowledge } = await attach(receiver, { maxInFlight: 1 });
		const send = (type: string, priority = Priority.NORMAL) =>
			sender.messaging.send({ to: to("receiver"), message: message(type, { priority }), durability: transient });
		expect((await send("n.first")).disposition).toBe(Disposition.DELIVERED);
		expect((await send("n.low", Priority.LOW)).disposition).toBe(Disposition.QUEUED);
		await send("n.normal");
		await send("n.high", Priority.HIGH);
		for (const count of [1, 2, 3, 4]) {
			await down.when(() => deliveriesOf(down).length === count);
			acknowledge(deliveriesOf(down)[count - 1]!.deliveryId);
		}
		expect(typesOf(down)).toEqual(["n.first", "n.high", "n.normal", "n.low"]);

		// Credit 0 pauses; more credit lets several go at once.
		up.push({ frame: { case: "credit", value: { maxInFlight: 0 } } });
		await until(async () => (await send("p.p")).disposition === Disposition.QUEUED);
		const before = deliveriesOf(down).length;
		const entries = Array.from({ length: 1000 }, (_, index) => ({
			entryId: BigInt(index),
			to: to("receiver"),
			message: message("q.q"),
			durability: transient,
		}));
		const requests = new Outbox<SendUp>();
		const results = new Feed(sender.messaging.sendStream(requests));
		for (let batch = 0; batch < 11; batch++) requests.push({ frame: { case: "batch", value: { entries } } });
		requests.end();
		await results.ended;
		const outcomes = results.all("results").flatMap((batch) => batch.results.map(({ outcome }) => outcome));
		const refused = outcomes.flatMap((outcome) => (outcome.case === "error" ? [outcome.value.reason] : []));
		expect(outcomes).toHaveLength(11_000);
		expect(outcomes.filter(({ case: kind }) => kind === "accepted").length).toBeGreaterThan(9_000);
		expect(new Set(refused)).toEqual(new Set(["MAILBOX_FULL"]));
		expect(await failureOf(send("r.r"))).toMatchObject({ code: "ResourceExhausted", reason: "MAILBOX_FULL" });
		expect(deliveriesOf(down)).toHaveLength(before);
		up.push({ frame: { case: "credit", value: { maxInFlight: 10 } } });
		await down.when(() => deliveriesOf(down).length >= before + 10);
	});

	it("goes to one of several competing instances, and again where it was not handled", async () => {
		await using hub = await start();
		const [sender, receiver] = [await hub.enrol("sender"), await hub.enrol("receiver")];
		const sessions = [await attach(receiver, { maxInFlight: 100 }), await attach(receiver, { maxInFlight: 100 })];
		const total = 50;
		for (let index = 0; index < total; index++) {
			await sender.messaging.send({
				to: to("receiver"),
				message: message("n.n", { id: `m${index}` }),
				durability: transient,
			});
		}
		const all = () => sessions.flatMap(({ down }) => deliveriesOf(down));
		await until(() => all().length === total);
		expect(new Set(all().map((delivery) => delivery.message?.id)).size).toBe(total);
		expect(sessions.every(({ down }) => deliveriesOf(down).length > 0)).toBe(true);
		const [one] = sessions;
		const again = deliveriesOf(one!.down)[0]!;
		one!.settle({ deliveryId: again.deliveryId, outcome: { case: "negative", value: {} } });
		await until(() => all().length === total + 1);
		const repeat = all().filter((delivery) => delivery.message?.id === again.message?.id);
		expect(repeat.map((delivery) => delivery.message?.attempt).sort()).toEqual([1, 2]);
	});
});

describeHubs("a request", (start) => {
	it("is answered with the handler's reply, or its failure as data", async () => {
		await using hub = await start();
		const [sender, receiver] = [await hub.enrol("sender"), await hub.enrol("receiver")];
		const { down, reply, settle } = await attach(receiver);
		const ask = (type: string) =>
			sender.messaging.request({ to: to("receiver"), message: message(type, { payload: text("?") }) });
		const deliver = async (count: number) => {
			await down.when(() => deliveriesOf(down).length === count);
			return deliveriesOf(down)[count - 1]!;
		};
		const good = ask("do.it");
		const first = await deliver(1);
		expect(first).toMatchObject({ message: { requiresResponse: true, source: "sender" } });
		expect(Number(first.timeLeft?.seconds)).toBeGreaterThan(25);
		reply(first.deliveryId, { success: true, data: text("!"), attributes: { a: "b" } });
		expect(await good).toMatchObject({
			source: "receiver",
			reply: { success: true, data: { ...text("!") }, attributes: { a: "b" } },
		});
		const bad = ask("do.it");
		const error = { type: "broken", message: "no", nonRetryable: true, retryAfter: { seconds: 2n, nanos: 0 } };
		reply((await deliver(2)).deliveryId, { success: false, error });
		expect(await bad).toMatchObject({ reply: { success: false, error } });
		const terminated = ask("do.it");
		settle({ deliveryId: (await deliver(3)).deliveryId, outcome: { case: "terminate", value: { reason: "never" } } });
		expect(await terminated).toMatchObject({
			reply: { success: false, error: { type: "terminated", nonRetryable: true } },
		});
		const refused = ask("do.it");
		reply((await deliver(4)).deliveryId, { success: true, data: { body: { case: "json", value: "{" } } });
		expect(await refused).toMatchObject({ reply: { success: false, error: { type: "invalid_reply" } } });
		expect((await down.first("failures")).failures).toMatchObject([{ error: { reason: "INVALID_CONTENT" } }]);
	});

	it("ends by its timeout, its deadline or its caller's cancel, and the handler is told which", async () => {
		await using hub = await start();
		const [sender, receiver] = [await hub.enrol("sender"), await hub.enrol("receiver")];
		const { down, reply } = await attach(receiver);
		const request = { to: to("receiver"), message: message("do.it") };
		const late = { code: "DeadlineExceeded" };
		expect(await failureOf(sender.messaging.request({ ...request, timeout: { nanos: 80_000_000 } }))).toMatchObject({
			...late,
			reason: "DEADLINE_EXCEEDED",
		});
		expect(await failureOf(sender.messaging.request(request, { timeoutMs: 80 }))).toMatchObject(late);
		const leave = new AbortController();
		const given = failureOf(sender.messaging.request(request, { signal: leave.signal }));
		await down.when(() => deliveriesOf(down).length === 3);
		leave.abort();
		expect(await given).toMatchObject({ code: "Canceled" });
		await down.when(() => down.all("cancelled").length === 3);
		const told = new Map(down.all("cancelled").map(({ deliveryId, reason }) => [deliveryId, reason]));
		const [timedOut, pastDeadline, cancelled] = deliveriesOf(down).map(({ deliveryId }) => told.get(deliveryId));
		expect([timedOut, cancelled]).toEqual(["DEADLINE_EXCEEDED", "CANCELLED"]);
		// A client that keeps its deadline itself may take the call back before the hub's own timer is there.
		expect(["DEADLINE_EXCEEDED", "CANCELLED"]).toContain(pastDeadline);
		// A reply to a request that nobody waits for comes to nothing, and is said to.
		reply(deliveriesOf(down)[0]!.deliveryId, { success: true });
		expect((await down.first("failures")).failures).toMatchObject([{ error: { reason: "DELIVERY_NOT_FOUND" } }]);
	});

	it("fails at once where its handler goes away", async () => {
		await using hub = await start();
		const [sender, receiver] = [await hub.enrol("sender"), await hub.enrol("receiver")];
		const { up, down } = await attach(receiver);
		const asked = failureOf(sender.messaging.request({ to: to("receiver"), message: message("do.it") }));
		await down.first("batch");
		up.end();
		await down.ended;
		expect(down.failure).toBeUndefined();
		expect(await asked).toMatchObject({ code: "Unavailable", reason: "RECIPIENT_UNAVAILABLE" });
	});
});

describeHubs("a stream of messages and requests", (start) => {
	it("tells what became of each entry, in the order in which it is known", async () => {
		await using hub = await start();
		const [sender, receiver] = [await hub.enrol("sender"), await hub.enrol("receiver")];
		const { down, reply } = await attach(receiver);
		const requests = new Outbox<SendUp>();
		const results = new Feed(sender.messaging.sendStream(requests));
		const entry = (entryId: bigint, more: object) => ({
			entryId,
			to: to("receiver"),
			message: message("n.n"),
			...more,
		});
		const seconds = (value: bigint) => ({ requestTimeout: { seconds: value } });
		requests.push({
			frame: {
				case: "batch",
				value: {
					entries: [
						entry(1n, seconds(60n)),
						entry(2n, { durability: transient }),
						entry(3n, { durability: transient, message: { type: "" } }),
						entry(4n, { requestTimeout: { nanos: 50_000_000 } }),
						entry(5n, seconds(60n)),
						entry(6n, { to: undefined, durability: transient }),
					],
				},
			},
		});
		const outcomes = () =>
			results
				.all("results")
				.flatMap((batch) => batch.results)
				.map(({ entryId, outcome }) => [
					Number(entryId),
					outcome.case === "error" ? outcome.value.reason : outcome.case,
				]);
		await results.when(() => outcomes().length === 4);
		expect(outcomes()).toEqual([
			[2, "accepted"],
			[3, "INVALID_EVENT_TYPE"],
			[6, "INVALID_FIELD"],
			[4, "DEADLINE_EXCEEDED"],
		]);
		requests.push({ frame: { case: "cancel", value: { entryId: 5n } } });
		await results.when(() => outcomes().length === 5);
		expect(outcomes()[4]).toEqual([5, "CANCELLED"]);
		await down.when(() => down.all("cancelled").length === 2);
		const first = deliveriesOf(down).find((delivery) => delivery.message?.requiresResponse)!;
		reply(first.deliveryId, { success: true, data: text("!") });
		requests.end();
		await results.ended;
		expect(results.failure).toBeUndefined();
		expect(outcomes()[5]).toEqual([1, "reply"]);
	});
});

describeHubs("a receiving session without an upload", (start) => {
	it("is acknowledged and answered by calls of its own", async () => {
		await using hub = await start();
		const [sender, receiver, other] = [
			await hub.enrol("sender"),
			await hub.enrol("receiver"),
			await hub.enrol("other"),
		];
		const { instanceId } = await receiver.plugins.register({
			manifestJson: JSON.stringify({
				manifest_version: 2,
				id: "receiver",
				name: "receiver",
				version: "1.0.0",
				type: "service",
			}),
		});
		const down = new Feed(receiver.messaging.receive({ instanceId, maxInFlight: 1 }));
		const { id: sessionId } = await down.first("ready");
		const send = (type: string) =>
			sender.messaging.send({ to: to("receiver"), message: message(type), durability: transient });
		await send("n.one");
		await send("n.two");
		await down.when(() => deliveriesOf(down).length === 1);
		const acknowledged = { case: "acknowledge", value: true } as const;
		const answer = await receiver.messaging.acknowledge({
			sessionId,
			deliveries: [
				{ deliveryId: deliveriesOf(down)[0]!.deliveryId, outcome: acknowledged },
				{ deliveryId: "77", outcome: acknowledged },
			],
			credit: { maxInFlight: 5 },
		});
		expect(answer.failures).toMatchObject([{ deliveryId: "77", error: { reason: "DELIVERY_NOT_FOUND" } }]);
		const asked = sender.messaging.request({ to: to("receiver"), message: message("do.it") });
		await down.when(() => deliveriesOf(down).length === 3);
		const { deliveryId } = deliveriesOf(down)[2]!;
		const reply = { sessionId, reply: { deliveryId, reply: { success: true, data: text("!") } } };
		for (const call of [other.messaging.reply(reply), other.messaging.acknowledge({ sessionId })]) {
			expect(await failureOf(call)).toMatchObject({ code: "NotFound", reason: "SESSION_NOT_FOUND" });
		}
		await receiver.messaging.reply(reply);
		expect((await asked).reply).toMatchObject({ success: true });
		expect(await failureOf(receiver.messaging.reply(reply))).toMatchObject({ reason: "DELIVERY_NOT_FOUND" });
		const lost = new Feed(receiver.messaging.receive({ instanceId: "nobody" }));
		await lost.ended;
		expect(lost.failure).toMatchObject({ code: "NotFound", reason: "INSTANCE_NOT_FOUND" });
		// Sessions of one plugin are bounded, and what is over the bound harms none of them.
		const more = Array.from({ length: 63 }, () => new Feed(receiver.messaging.receive({})));
		await Promise.all(more.map((feed) => feed.first("ready")));
		const over = new Feed(receiver.messaging.receive({}));
		await over.ended;
		expect(over.failure).toMatchObject({
			code: "ResourceExhausted",
			reason: "LIMIT_EXCEEDED",
			details: expect.arrayContaining(["QuotaFailure"]),
		});
		expect([down, ...more].every(({ done }) => !done)).toBe(true);
	});
});
