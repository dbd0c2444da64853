import type { MessageInitShape } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { RequestManyEnd, type RequestManyRequestSchema } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { RouteSchema } from "#gen/qirvo/hub/v1/routes_pb.js";
import type { Middleware, MiddlewareVerdict } from "../../src/messaging/middleware.ts";
import { Feed } from "../harness/feed.ts";
import { ALL_GRANTS, describeHubs, type TestHub, until } from "../harness/hub.ts";
import { Inbox } from "../harness/inbox.ts";

type Ask = MessageInitShape<typeof RequestManyRequestSchema>;
type RouteInit = MessageInitShape<typeof RouteSchema>;

const GRANTS = { ...ALL_GRANTS, publishTopics: ["**"], subscribeTopics: ["**"] };
const pass: MiddlewareVerdict = { kind: "pass" };
const plugins = (...ids: string[]) => ids.map((value) => ({ target: { case: "pluginId", value } }) as const);
const alias = (value: string) => ({ target: { case: "alias", value } }) as const;
const on = (value: string, action: RouteInit["action"]): RouteInit => ({
	name: `on-${value}-${action!.case}`,
	match: { address: { case: "recipient", value } },
	action,
});

/** A plugin that asks, and plugins that answer at once and are subscribed to `t`. */
async function world(hub: TestHub, ...ids: string[]) {
	const asker = await hub.enrol("asker", { ...GRANTS, sendTo: [...ids] });
	const inboxes: Record<string, Inbox> = {};
	for (const id of ids) {
		const clients = await hub.enrol(id, GRANTS);
		await clients.messaging.subscribeTopic({ pattern: "t" });
		inboxes[id] = await Inbox.open(clients);
	}
	const put = async (...routes: RouteInit[]) => {
		for (const route of routes) await hub.operator.messaging.putRoute({ route });
	};
	const open = (request: Ask, options: object = {}) =>
		new Feed(asker.messaging.requestMany({ message: { type: "ask", id: "r-1" }, ...request } as Ask, options));
	const ask = async (request: Ask) => {
		const feed = open(request);
		await feed.ended;
		return {
			failure: feed.failure,
			replies: feed
				.all("replies")
				.flatMap(({ replies }) => replies.map(({ source }) => source))
				.toSorted(),
			failures: feed
				.all("failures")
				.flatMap(({ failures }) => failures.map(({ recipient, error }) => `${recipient} ${error!.reason}`))
				.toSorted(),
			summary: feed.all("summary")[0],
		};
	};
	return { asker, inboxes, put, open, ask };
}

describeHubs("a request to several", (start) => {
	it("follows aliases, denials, redirects and mirrors for each recipient, and asks each plugin once", async () => {
		await using hub = await start();
		const { inboxes, put, ask } = await world(hub, "a", "b", "c");
		inboxes.log = await Inbox.open(await hub.enrol("log", GRANTS));
		await hub.enrol("stranger", GRANTS);
		await put(
			{ name: "team", match: { address: { case: "alias", value: "team" } }, action: { case: "alias", value: "b" } },
			on("a", { case: "redirect", value: "b" }),
			on("c", { case: "deny", value: { reason: "closed" } }),
			on("d", { case: "redirect", value: "stranger" }),
			{ name: "all", action: { case: "mirror", value: "log" } },
		);
		const to = [...plugins("a", "b", "c", "d"), alias("team"), alias("nowhere")];
		expect(await ask({ to })).toMatchObject({
			replies: ["b"],
			failures: ["c ROUTE_DENIED", "nowhere NO_ROUTE", "stranger NO_SEND_PERMISSION"],
			summary: { end: RequestManyEnd.COMPLETE, answered: 1, failed: 3, unanswered: 0, merged: 2 },
		});
		expect(await ask({ topic: "t" })).toMatchObject({
			replies: ["b"],
			failures: ["c ROUTE_DENIED"],
			summary: { answered: 1, failed: 1, unanswered: 0, merged: 1 },
		});
		await inboxes.log.came(2);
		expect(inboxes.log.messages).toMatchObject([
			{ id: "r-1", requiresResponse: false, attributes: { "hub-mirror": "all" } },
			{ topic: "t" },
		]);
		// Whoever names a mirror's plugin without the grant for it hides nothing from it.
		const named = { to: plugins("b", "log"), message: { type: "ask", id: "r-2" } };
		expect(await ask(named)).toMatchObject({ replies: ["b"], failures: ["log NO_SEND_PERMISSION"] });
		await inboxes.log.came(3);
		expect(inboxes.log.messages[2]).toMatchObject({ id: "r-2", attributes: { "hub-mirror": "all" } });
		expect((await ask({ to: plugins("c") })).failure).toMatchObject({ reason: "ROUTE_DENIED", message: "closed" });
		await put({ ...on("b", { case: "redirect", value: "asker" }), name: "back", priority: 1 });
		expect((await ask({ topic: "t" })).failure).toMatchObject({ reason: "RECIPIENT_UNAVAILABLE" });
		expect(inboxes.a!.ids).toEqual([]);
	});

	it("counts what middleware answers as the recipient's reply and what it refuses as its failure", async () => {
		const verdicts: Record<string, MiddlewareVerdict> = {
			answered: { kind: "answer", reply: { success: true } },
			refused: { kind: "refuse", reason: "no" },
			changed: { kind: "change", attributes: { seen: "yes" } },
		};
		const judge: Middleware = {
			name: "judge",
			onFailure: "closed",
			inspect: ({ requiresResponse }, { to }) => (requiresResponse ? (verdicts[to] ?? pass) : pass),
		};
		await using hub = await start({ middleware: [judge], readsAudit: true });
		const { inboxes, ask } = await world(hub, "answered", "changed", "plain", "refused");
		const expected = {
			replies: ["changed", "judge", "plain"],
			failures: ["refused MESSAGE_REFUSED"],
			summary: { end: RequestManyEnd.COMPLETE, answered: 3, failed: 1, unanswered: 0, merged: 0 },
		};
		expect(await ask({ topic: "t" })).toMatchObject(expected);
		expect(await ask({ to: plugins("plain", "refused", "changed", "answered") })).toMatchObject(expected);
		expect(inboxes.changed!.messages[0]!.attributes).toEqual({ seen: "yes", "hub-middleware": "judge" });
		expect(inboxes.answered!.ids).toEqual([]);
		expect(inboxes.refused!.ids).toEqual([]);
		expect(await ask({ to: plugins("answered") })).toMatchObject({ replies: ["judge"], summary: { answered: 1 } });
		// It is known only after the stream has begun that nobody is asked.
		expect(await ask({ to: plugins("refused") })).toMatchObject({
			failure: undefined,
			failures: ["refused MESSAGE_REFUSED"],
			summary: { end: RequestManyEnd.COMPLETE, answered: 0, failed: 1, unanswered: 0 },
		});
		expect(await ask({ to: plugins("answered", "plain"), maxReplies: 1 })).toMatchObject({
			summary: { end: RequestManyEnd.MAXIMUM, answered: 1 },
		});
		await until(async () => (await hub.recorded("denials")).length === 3);
		const [byTopic, byName] = await hub.recorded("denials");
		expect(byTopic).toMatchObject({
			actor: "plugin:asker",
			target: "topic:t",
			reason: "message_refused",
			details: { recipients: "1", first_recipient: "refused", message: "no" },
		});
		expect(byName).toMatchObject({ target: "plugin:refused", reason: "message_refused", details: { message: "no" } });
		const deaf = await hub.enrol("deaf", GRANTS);
		await deaf.messaging.subscribeTopic({ pattern: "t" });
		await hub.operator.admin.setPermissions({ pluginId: "deaf", permissions: { ...GRANTS, receiveFrom: [] } });
		expect(await ask({ topic: "t" })).toMatchObject({
			failures: ["deaf RECIPIENT_CANNOT_RECEIVE", "refused MESSAGE_REFUSED"],
			summary: { answered: 3, failed: 2 },
		});
		const reasons = async () => (await hub.recorded("denials")).slice(3).map(({ reason }) => reason);
		await until(async () => (await reasons()).includes("message_refused"));
		expect(await reasons()).toEqual(["recipient_cannot_receive", "message_refused"]);
	});

	it("waits for verdicts no longer than for replies, and for none once the asker is gone", async () => {
		const waiting: (() => void)[] = [];
		const slow: Middleware = {
			name: "slow",
			onFailure: "closed",
			deadlineMs: 5000,
			recipients: ["slow"],
			inspect: () => new Promise((resolve) => waiting.push(() => resolve(pass))),
		};
		await using hub = await start({ middleware: [slow] });
		const { inboxes, open, ask } = await world(hub, "slow", "fast");
		expect(await ask({ topic: "t", timeout: { nanos: 150_000_000 } })).toMatchObject({
			replies: ["fast"],
			failures: [],
			summary: { end: RequestManyEnd.TIMEOUT, answered: 1, failed: 0, unanswered: 1 },
		});
		expect(await ask({ topic: "t", stallTimeout: { nanos: 100_000_000 } })).toMatchObject({
			summary: { end: RequestManyEnd.STALLED, answered: 1, failed: 0, unanswered: 1 },
		});
		const { calls } = hub.running.open();
		const gone = new AbortController();
		const feed = open({ topic: "t" }, { signal: gone.signal });
		await feed.first("replies");
		gone.abort();
		await until(() => hub.running.open().calls === calls);
		for (const release of waiting) release();
		expect(waiting).toHaveLength(3);
		const last = open({ topic: "t", message: { type: "ask", id: "r-2" } });
		await until(() => waiting.length === 4);
		waiting[3]!();
		expect(await last.first("summary")).toMatchObject({ end: RequestManyEnd.COMPLETE, answered: 2 });
		expect(inboxes.slow!.ids).toEqual(["r-2"]);
	});

	it("waits for room where middleware looks at more than there is room for, and asks nobody after the end", async () => {
		let [looking, most, looked] = [0, 0, 0];
		const slow: Middleware = {
			name: "slow",
			onFailure: "closed",
			deadlineMs: 5000,
			async inspect(): Promise<MiddlewareVerdict> {
				looked++;
				most = Math.max(most, ++looking);
				await new Promise((resolve) => setImmediate(resolve));
				looking--;
				return { kind: "answer", reply: { success: true } };
			},
		};
		await using hub = await start({ middleware: [slow] });
		const ids = Array.from({ length: 40 }, (_, index) => `p-${index}`);
		const asker = await hub.enrol("asker", { ...GRANTS, sendTo: ids });
		const content = new Uint8Array(1000 * 1000);
		for (const id of ids) {
			await hub.operator.admin.setPermissions({ pluginId: id, permissions: { receiveFrom: ["*"] } });
		}
		const ask = async (more: object) => {
			const message = { type: "ask", payload: { body: { case: "binary", value: content } } } as const;
			const feed = new Feed(asker.messaging.requestMany({ to: plugins(...ids), message, ...more }));
			await feed.ended;
			expect([feed.failure, feed.all("failures")]).toEqual([undefined, []]);
			return feed.all("summary")[0];
		};
		expect(await ask({})).toMatchObject({ end: RequestManyEnd.COMPLETE, answered: 40, failed: 0, unanswered: 0 });
		expect([looked, most]).toEqual([40, 4]);
		expect(await ask({ maxReplies: 3 })).toMatchObject({
			end: RequestManyEnd.MAXIMUM,
			answered: 3,
			failed: 0,
			unanswered: 37,
		});
		expect(looked).toBe(44);
	});
});
