import type { MessageInitShape } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import {
	type AttachRequestSchema,
	MessageKind,
	RequestManyEnd,
	type RequestManyRequestSchema,
	type RequestManyResponse,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { Feed } from "../harness/feed.ts";
import { ALL_GRANTS, type Clients, describeHubs, type TestHub } from "../harness/hub.ts";
import { Outbox } from "../harness/outbox.ts";

type Ask = MessageInitShape<typeof RequestManyRequestSchema>;

const GRANTS = { ...ALL_GRANTS, publishTopics: ["**"], subscribeTopics: ["**"] };
const to = (...ids: string[]) => ids.map((value) => ({ target: { case: "pluginId", value } }) as const);
const message = { type: "ask" };

/** A session whose requests are answered when the test says so. */
async function attach(plugin: Clients) {
	const up = new Outbox<MessageInitShape<typeof AttachRequestSchema>>({ frame: { case: "open", value: {} } });
	const down = new Feed(plugin.messaging.attach(up));
	await down.first("ready");
	const reply = async (success = true) => {
		const { deliveries } = await down.first("batch");
		const content = success ? { success } : { success, error: { type: "broken" } };
		up.push({ frame: { case: "reply", value: { deliveryId: deliveries[0]!.deliveryId, reply: content } } });
		return deliveries[0]!.message!;
	};
	return { up, down, reply };
}

async function attached(hub: TestHub, ...ids: string[]) {
	const sessions = [];
	for (const id of ids) sessions.push(await attach(await hub.enrol(id, GRANTS)));
	return sessions;
}

const repliesOf = (feed: Feed<RequestManyResponse>) => feed.all("replies").flatMap(({ replies }) => replies);
const failuresOf = (feed: Feed<RequestManyResponse>) => feed.all("failures").flatMap(({ failures }) => failures);

describeHubs("a request to several", (start) => {
	it("gives each reply when it comes, says who cannot reply, and sums up", async () => {
		await using hub = await start();
		const asker = await hub.enrol("asker", GRANTS);
		const [one, two] = await attached(hub, "one", "two");
		await hub.enrol("idle");
		const feed = new Feed(asker.messaging.requestMany({ to: to("one", "two", "one", "idle", "nobody"), message }));
		const { id } = await feed.first("ready");
		const first = await two!.reply(false);
		expect(first).toMatchObject({ id, requiresResponse: true, source: "asker", recipient: "two", topic: "" });
		await feed.when(() => repliesOf(feed).length === 1);
		expect(repliesOf(feed)).toMatchObject([
			{ id, source: "two", reply: { success: false, error: { type: "broken" } } },
		]);
		expect(feed.cases).not.toContain("summary");
		await one!.reply();
		expect(await feed.first("summary")).toMatchObject({
			end: RequestManyEnd.COMPLETE,
			answered: 2,
			failed: 2,
			unanswered: 0,
		});
		await feed.ended;
		expect(feed.failure).toBeUndefined();
		expect(failuresOf(feed).map(({ recipient, error }) => [recipient, error!.reason])).toEqual([
			["idle", "RECIPIENT_UNAVAILABLE"],
			["nobody", "NO_ROUTE"],
		]);
		for (const { up, down } of [one!, two!]) {
			up.end();
			await down.ended;
		}
	});

	it("ends at its maximum, when it stalls and when its time is over; the handlers are told", async () => {
		await using hub = await start();
		const asker = await hub.enrol("asker", GRANTS);
		const cases: [Partial<Ask>, RequestManyEnd, string][] = [
			[{ maxReplies: 1 }, RequestManyEnd.MAXIMUM, "CANCELLED"],
			[{ stallTimeout: { nanos: 100_000_000 } }, RequestManyEnd.STALLED, "CANCELLED"],
			[{ timeout: { nanos: 200_000_000 } }, RequestManyEnd.TIMEOUT, "DEADLINE_EXCEEDED"],
		];
		for (const [index, [bounds, end, told]] of cases.entries()) {
			const [quick, slow] = await attached(hub, `quick-${index}`, `slow-${index}`);
			const ask = { to: to(`quick-${index}`, `slow-${index}`), message, ...bounds } as Ask;
			const feed = new Feed(asker.messaging.requestMany(ask));
			await quick!.reply();
			expect(await feed.first("summary")).toMatchObject({ end, answered: 1, failed: 0, unanswered: 1 });
			await feed.ended;
			expect(await slow!.down.first("cancelled")).toMatchObject({ reason: told });
			for (const { up, down } of [quick!, slow!]) {
				up.end();
				await down.ended;
			}
		}
	});

	it("asks the subscribers of a topic, and not the asker", async () => {
		await using hub = await start();
		const asker = await hub.enrol("asker", GRANTS);
		await asker.messaging.subscribeTopic({ pattern: "**" });
		const member = await hub.enrol("member", GRANTS);
		await member.messaging.subscribeTopic({ pattern: "house.*" });
		const { up, down, reply } = await attach(member);
		const feed = new Feed(asker.messaging.requestMany({ topic: "house:door", message }));
		expect(await reply()).toMatchObject({ kind: MessageKind.PUBLICATION, topic: "house:door", requiresResponse: true });
		expect(await feed.first("summary")).toMatchObject({ answered: 1, failed: 0, unanswered: 0 });
		await feed.ended;
		up.end();
		await down.ended;
	});

	it("says at once that nobody can be asked, and refuses what is no request", async () => {
		await using hub = await start();
		const asker = await hub.enrol("asker", { sendTo: ["idle", "deaf", "nobody"], publishTopics: ["t"] });
		await hub.enrol("idle");
		await hub.enrol("deaf", { ...ALL_GRANTS, receiveFrom: [] });
		const cases: [Ask, object][] = [
			[
				{ to: to("idle"), message },
				{ code: "Unavailable", reason: "RECIPIENT_UNAVAILABLE" },
			],
			[{ to: to("nobody"), message }, { reason: "NO_ROUTE" }],
			[{ to: to("deaf"), message }, { reason: "RECIPIENT_CANNOT_RECEIVE" }],
			[{ to: to("other", "another"), message }, { reason: "NO_SEND_PERMISSION" }],
			[
				{ to: to("idle", "deaf"), message },
				{ reason: "RECIPIENT_UNAVAILABLE", metadata: { recipients: "2" } },
			],
			[{ topic: "t", message }, { reason: "RECIPIENT_UNAVAILABLE" }],
			[{ topic: "u", message }, { reason: "INSUFFICIENT_PERMISSIONS" }],
			[{ message }, { fields: ["to"] }],
			[{ topic: "t", to: to("idle"), message }, { fields: ["to"] }],
			[{ to: to(...Array<string>(257).fill("idle")), message }, { fields: ["to"] }],
			[
				{ to: to("idle", "NO"), message },
				{ reason: "INVALID_PLUGIN_ID", fields: ["to[1].plugin_id"] },
			],
			[{ to: to("idle") }, { fields: ["message"] }],
			[{ to: to("idle"), message, stallTimeout: {} }, { fields: ["stall_timeout"] }],
			[{ to: to("idle"), message, timeout: {} }, { fields: ["timeout"] }],
			[
				{ to: to("idle"), message: { ...message, payload: { body: { case: "json", value: "{" } } } },
				{ reason: "INVALID_CONTENT", fields: ["message.payload.json"] },
			],
		];
		for (const [request, failure] of cases) {
			const feed = new Feed(asker.messaging.requestMany(request));
			await feed.ended;
			expect(feed.failure).toMatchObject(failure);
			expect(feed.frames).toEqual([]);
		}
	});

	it("tells the handlers when the asker is gone", async () => {
		await using hub = await start();
		const asker = await hub.enrol("asker", GRANTS);
		const [one] = await attached(hub, "one");
		const gone = new AbortController();
		const feed = new Feed(asker.messaging.requestMany({ to: to("one"), message }, { signal: gone.signal }));
		await one!.down.first("batch");
		gone.abort();
		expect(await one!.down.first("cancelled")).toMatchObject({ reason: "CANCELLED" });
		await feed.ended;
		one!.up.end();
		await one!.down.ended;
	});
});
