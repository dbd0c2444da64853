import { describe, expect, it, vi } from "vitest";
import type { Position } from "#gen/qirvo/hub/v1/payload_pb.js";
import { connect, type HubEvent } from "../../src/client/index.ts";
import { startCuttingRelay } from "../harness/cutting-relay.ts";
import { Feed } from "../harness/feed.ts";
import { type Clients, describeHubs, manifestOf, TestHub, until } from "../harness/hub.ts";
import { quiet } from "./client-opener.ts";

type SubscribeRequest = Parameters<Clients["events"]["subscribe"]>[0];

const SUBSCRIBE_ONLY = { emit: [], subscribe: ["n.**"], replay: [] };
const REFUSED = { code: "PermissionDenied", reason: "INSUFFICIENT_PERMISSIONS" };

/** A subscription that its reader can leave. */
function follow(clients: Clients, request: SubscribeRequest) {
	const abort = new AbortController();
	const feed = new Feed(clients.events.subscribe(request, { signal: abort.signal }));
	const subjects = () => feed.all("batch").flatMap((batch) => batch.events.map((event) => event.subject));
	return {
		feed,
		subjects,
		token: async () => (await feed.first("ready")).resumeToken,
		beginning: async () => {
			await feed.first("ready");
			return feed.frames[0]!.position!;
		},
		/** Leaves; gives where to go on. */
		leave: async (): Promise<Position> => {
			abort.abort();
			await feed.ended;
			return feed.frames.at(-1)!.position!;
		},
	};
}

function resume(token: string, after: Position, patterns = ["n.*"]): NonNullable<SubscribeRequest> {
	return { patterns, start: { from: { case: "after", value: after } }, resumeToken: token };
}

/** How a subscription is refused. */
async function refusal(clients: Clients, request: SubscribeRequest) {
	const { feed, leave } = follow(clients, request);
	await Promise.race([feed.ended, feed.first("ready").catch(() => {})]);
	if (!feed.done) await leave();
	return feed.failure;
}

describeHubs("a resume token", (start) => {
	it("lets a plugin that may only subscribe go on where it was, again and again", async () => {
		await using hub = await start();
		const publisher = await hub.enrol("publisher");
		const watcher = await hub.enrol("watcher", SUBSCRIBE_ONLY);
		const emit = (subject: string) => publisher.events.emit({ event: { type: "n.a", subject } });
		await emit("before");
		const first = follow(watcher, { patterns: ["n.*"] });
		const beginning = await first.beginning();
		await emit("0");
		await first.feed.when(() => first.subjects().length === 1);
		const token = await first.token();
		expect(token).toMatch(/^[A-Za-z0-9_-]{40,128}$/);
		let after = await first.leave();
		const seen = first.subjects();
		for (let round = 1; round < 4; round++) {
			await emit(`missed ${round}`);
			const next = follow(watcher, resume(token, after));
			await next.feed.first("ready");
			expect(await next.token()).toBe(token);
			await emit(`live ${round}`);
			await next.feed.when(() => next.subjects().length === 2);
			after = await next.leave();
			seen.push(...next.subjects());
		}
		expect(seen).toEqual(["0", "missed 1", "live 1", "missed 2", "live 2", "missed 3", "live 3"]);
		const anew = follow(watcher, resume(token, beginning));
		await anew.feed.when(() => anew.subjects().length === seen.length);
		expect(anew.subjects()).toEqual(seen);
		await anew.leave();
	});

	it("opens nothing else", async () => {
		await using hub = await start();
		const publisher = await hub.enrol("publisher");
		const watcher = await hub.enrol("watcher", SUBSCRIBE_ONLY);
		const other = await hub.enrol("other", SUBSCRIBE_ONLY);
		await publisher.events.emit({ event: { type: "n.a" } });
		const first = follow(watcher, { patterns: ["n.a", "n.b"] });
		const after = await first.beginning();
		const token = await first.token();
		await first.leave();
		const patterns = ["n.a", "n.b"];
		const sealed = Buffer.from(token, "base64url");
		const forged = (change: (bytes: Buffer) => void) => {
			const bytes = Buffer.from(sealed);
			change(bytes);
			return bytes.toString("base64url");
		};
		const earlier = { epoch: after.epoch, sequence: after.sequence - 1n } as Position;
		const refused: [string, Clients, SubscribeRequest][] = [
			["no token", watcher, resume("", after, patterns)],
			["another plugin", other, resume(token, after, patterns)],
			["a wider pattern", watcher, resume(token, after, ["n.*"])],
			["one pattern more", watcher, resume(token, after, [...patterns, "n.c"])],
			["one pattern less", watcher, resume(token, after, ["n.a"])],
			["an earlier position", watcher, resume(token, earlier, patterns)],
			["another epoch", watcher, resume(token, { ...after, epoch: "other" }, patterns)],
			[
				"an earlier beginning",
				watcher,
				resume(
					forged((bytes) => bytes.fill(0, 0, 8)),
					earlier,
					patterns,
				),
			],
			[
				"a changed seal",
				watcher,
				resume(
					forged((bytes) => (bytes[20]! ^= 1)),
					after,
					patterns,
				),
			],
			["a replay", watcher, { ...resume(token, after, patterns), live: false }],
			["everything", watcher, { patterns, start: { from: { case: "everything", value: true } }, resumeToken: token }],
		];
		for (const [what, clients, request] of refused) {
			expect(await refusal(clients, request), what).toMatchObject(REFUSED);
		}
		for (const spelled of [
			["n.b", "n.a"],
			["n:a", "n.b", "n.a"],
		]) {
			const again = follow(watcher, resume(token, after, spelled));
			await again.feed.first("caughtUp");
			await again.leave();
		}
		for (const malformed of [
			"x",
			`${token}=`,
			`${token}+`,
			"A".repeat(129),
			sealed.subarray(0, 40).toString("base64url"),
		]) {
			expect(await refusal(watcher, resume(malformed, after, patterns)), malformed).toMatchObject({
				reason: "INVALID_FIELD",
				fields: ["resume_token"],
			});
		}
	});

	it("is of no use without the subscribe grant", async () => {
		await using hub = await start();
		const watcher = await hub.enrol("watcher", SUBSCRIBE_ONLY);
		const grant = (subscribe: string[]) =>
			hub.operator.admin.setPermissions({ pluginId: "watcher", permissions: { ...SUBSCRIBE_ONLY, subscribe } });
		const first = follow(watcher, { patterns: ["n.*"] });
		const token = await first.token();
		const after = await first.leave();
		const second = follow(watcher, resume(token, after));
		await second.feed.first("caughtUp");
		await grant(["m.**"]);
		await second.feed.ended;
		expect(second.feed.failure).toMatchObject({ reason: "PERMISSION_REVOKED" });
		expect(await refusal(watcher, resume(token, after))).toMatchObject(REFUSED);
	});

	it("reaches back to where a subscription to the past began, and a replay gets none", async () => {
		await using hub = await start();
		const publisher = await hub.enrol("publisher");
		const watcher = await hub.enrol("watcher");
		for (const subject of ["0", "1", "2"]) await publisher.events.emit({ event: { type: "n.a", subject } });
		const everything = { from: { case: "everything" as const, value: true } };
		const replay = new Feed(watcher.events.subscribe({ patterns: ["n.*"], start: everything, live: false }));
		await replay.ended;
		expect(replay.all("ready")[0]!.resumeToken).toBe("");
		const first = follow(watcher, { patterns: ["n.*"], start: everything });
		await first.feed.first("caughtUp");
		const [token, beginning] = [await first.token(), await first.beginning()];
		await first.leave();
		await hub.operator.admin.setPermissions({ pluginId: "watcher", permissions: SUBSCRIBE_ONLY });
		const second = follow(watcher, resume(token, beginning));
		await second.feed.first("caughtUp");
		expect(second.subjects()).toEqual(["0", "1", "2"]);
		await second.leave();
	});

	it("is kept and sent by the client", async () => {
		await using hub = await start();
		const publisher = await hub.enrol("publisher");
		await using relay = await startCuttingRelay(hub.url);
		const { token } = await hub.enrol("watcher", SUBSCRIBE_ONLY);
		const client = await connect({ url: relay.url, token, manifest: manifestOf("watcher"), logger: quiet });
		try {
			const seen: HubEvent[] = [];
			await client.events.on("n.*", (event) => void seen.push(event));
			for (let round = 0; round < 3; round++) {
				await publisher.events.emit({ event: { type: "n.a", subject: `live ${round}` } });
				await until(() => seen.length === 2 * round + 1);
				await relay.cut(async () => {
					await until(() => hub.running.open().subscriptions === 0);
					await publisher.events.emit({ event: { type: "n.a", subject: `missed ${round}` } });
				});
				await vi.waitFor(() => expect(seen).toHaveLength(2 * round + 2), { timeout: 10_000 });
			}
			const rounds = [0, 1, 2].flatMap((round) => [`live ${round}`, `missed ${round}`]);
			expect(seen.map(({ subject }) => subject)).toEqual(rounds);
		} finally {
			await client.close();
		}
	});
});

describe("a resume token and a hub that restarts", () => {
	it("holds as before", async () => {
		await using first = await TestHub.start({ options: { state: "embedded" } });
		const publisher = await first.enrol("publisher");
		const watcher = await first.enrol("watcher", SUBSCRIBE_ONLY);
		const began = follow(watcher, { patterns: ["n.*"] });
		const token = await began.token();
		const after = await began.leave();
		await publisher.events.emit({ event: { type: "n.a", subject: "missed" } });
		await first.running.stop();
		await using second = await TestHub.start({ directory: first.directory, options: { state: "embedded" } });
		const resumed = follow(second.connect(watcher.token), resume(token, after));
		await resumed.feed.first("batch");
		expect(resumed.subjects()).toEqual(["missed"]);
		await resumed.leave();
	});
});
