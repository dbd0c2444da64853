import { timestampMs } from "@bufbuild/protobuf/wkt";
import { expect, it } from "vitest";
import type { SubscribeResponse } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { failureOf } from "../harness/failure.ts";
import { Feed } from "../harness/feed.ts";
import { ALL_GRANTS, type Clients, describeHubs, manifestOf, until } from "../harness/hub.ts";
import { Outbox } from "../harness/outbox.ts";
import { SkippingClock, UNHURRIED } from "../harness/skipping-clock.ts";

type Request = Parameters<Clients["events"]["subscribe"]>[0];

const subscribe = (clients: Clients, request: Request) => new Feed(clients.events.subscribe(request));
const eventsOf = (feed: Feed<SubscribeResponse>) => feed.all("batch").flatMap(({ events }) => events);
const typesOf = (feed: Feed<SubscribeResponse>) => eventsOf(feed).map(({ type }) => type);

describeHubs("a subscription", (start) => {
	it("starts with what is new, with everything, at a time or after a position", async () => {
		await using hub = await start();
		const [writer, reader] = [await hub.enrol("writer"), await hub.enrol("reader")];
		const emitted = [];
		for (const type of ["n.one", "n.two", "n.three"]) {
			const answer = await writer.events.emit({ event: { type } });
			emitted.push(answer);
			await until(() => Date.now() > timestampMs(answer.hubTime!));
		}
		const [one, two, three] = emitted;
		const starts: [Request["start"], string[]][] = [
			[undefined, []],
			[{ from: { case: "newOnly", value: true } }, []],
			[{ from: { case: "everything", value: true } }, ["n.one", "n.two", "n.three"]],
			[{ from: { case: "time", value: two!.hubTime! } }, ["n.two", "n.three"]],
			[{ from: { case: "after", value: one!.position! } }, ["n.two", "n.three"]],
			[{ from: { case: "after", value: three!.position! } }, []],
		];
		const live = starts.map(([from]) => subscribe(reader, { patterns: ["n.*"], start: from }));
		await Promise.all(live.map((feed) => feed.first("caughtUp")));
		const last = await writer.events.emit({ event: { type: "n.four" } });
		for (const [index, [, history]] of starts.entries()) {
			const feed = live[index]!;
			await feed.when(() => typesOf(feed).includes("n.four"));
			expect(typesOf(feed)).toEqual([...history, "n.four"]);
			expect(eventsOf(feed).map(({ isReplay }) => isReplay)).toEqual([...history.map(() => true), false]);
			const cases = feed.cases.filter((kind, at, all) => kind !== all[at - 1]);
			expect(cases).toEqual(
				history.length > 0 ? ["ready", "batch", "caughtUp", "batch"] : ["ready", "caughtUp", "batch"],
			);
			expect(feed.frames.at(-1)?.position).toMatchObject({ ...last.position! });
			const ready = await feed.first("ready");
			expect(feed.all("batch").every(({ subscriptionId }) => subscriptionId === ready.id)).toBe(true);
		}
		for (const [from, history] of starts) {
			const replay = subscribe(reader, { patterns: ["n.*"], start: from, live: false });
			await replay.ended;
			expect(replay.failure).toBeUndefined();
			expect(replay.cases.at(-1)).toBe("caughtUp");
			const all = history.length > 0 || from?.from?.case === "after" ? [...history, "n.four"] : [];
			expect(typesOf(replay)).toEqual(all);
			expect(eventsOf(replay).every(({ isReplay, source }) => isReplay && source === "writer")).toBe(true);
		}
	});

	it("needs a grant that covers its patterns: subscribe for what is new, replay for what is past", async () => {
		await using hub = await start();
		const reader = await hub.enrol("reader", { subscribe: ["a.b", "c.*"], replay: ["c.d"] });
		const everything = { start: { from: { case: "everything", value: true } } } as const;
		const refused: [Request, string, string][] = [
			[{ patterns: ["a.*"] }, "a.*", "subscribe"],
			[{ patterns: ["a.b", "**"] }, "**", "subscribe"],
			[{ patterns: ["a.b"], ...everything }, "a.b", "replay"],
			[{ patterns: ["c.*"], ...everything, live: false }, "c.*", "replay"],
		];
		for (const [request, pattern, grant] of refused) {
			const feed = subscribe(reader, request);
			await feed.ended;
			expect(feed.frames).toEqual([]);
			expect(feed.failure).toMatchObject({
				code: "PermissionDenied",
				reason: "INSUFFICIENT_PERMISSIONS",
				metadata: { pattern, grant },
			});
		}
		for (const request of [{ patterns: ["a:b", "c.d"] }, { patterns: ["c.d"], ...everything }]) {
			await subscribe(reader, request).first("caughtUp");
		}
	});

	it("takes both separators for one, and keeps the spelling given", async () => {
		await using hub = await start();
		const plugin = await hub.enrol("plugin");
		const feeds = ["a.b", "a:b", "*:b", "a.**"].map((pattern) => subscribe(plugin, { patterns: [pattern] }));
		await Promise.all(feeds.map((feed) => feed.first("caughtUp")));
		for (const type of ["a.b", "A.b", "a:b"]) await plugin.events.emit({ event: { type } });
		for (const [index, feed] of feeds.entries()) {
			const wanted = index === 2 ? ["a.b", "A.b", "a:b"] : ["a.b", "a:b"];
			await feed.when(() => eventsOf(feed).length >= wanted.length);
			expect(typesOf(feed)).toEqual(wanted);
		}
	});

	it("delivers what its filter admits, and counts what the filter cannot judge", async () => {
		await using hub = await start();
		const [writer, reader] = [await hub.enrol("writer"), await hub.enrol("reader")];
		const filter = `event.data.temp > 20 && event.attributes["room"] == "kitchen" && event.source == "writer"`;
		const feed = subscribe(reader, { patterns: ["t.*"], filter });
		await feed.first("caughtUp");
		const emit = (type: string, value: string, room = "kitchen") =>
			writer.events.emit({ event: { type, attributes: { room }, payload: { body: { case: "json", value } } } });
		await emit("t.warm", '{"temp":21.5}');
		await emit("t.cold", '{"temp":3}');
		await emit("t.elsewhere", '{"temp":30}', "garden");
		await emit("t.odd", '{"humidity":1}');
		await emit("t.hot", '{"temp":99}');
		await feed.when(() => eventsOf(feed).length === 2);
		expect(typesOf(feed)).toEqual(["t.warm", "t.hot"]);
		const { subscriptions } = await reader.events.listSubscriptions({});
		expect(subscriptions).toMatchObject([{ filter, delivered: 2n, filterErrors: 1n, lag: 0n }]);
	});

	it("ends after as many events as asked for", async () => {
		await using hub = await start();
		const plugin = await hub.enrol("plugin");
		const feeds = [1, 3].map((limit) => subscribe(plugin, { patterns: ["n.*"], limit }));
		await Promise.all(feeds.map((feed) => feed.first("caughtUp")));
		for (let index = 0; index < 5; index++) await plugin.events.emit({ event: { type: `n.${index}` } });
		await Promise.all(feeds.map((feed) => feed.ended));
		expect(feeds.map(({ failure }) => failure)).toEqual([undefined, undefined]);
		expect(feeds.map(typesOf)).toEqual([["n.0"], ["n.0", "n.1", "n.2"]]);
	});

	it("says that it is alive, and ends a wait that found nothing", async () => {
		const clock = new SkippingClock();
		await using hub = await start({ clock, options: UNHURRIED });
		const plugin = await hub.enrol("plugin");
		const [patient, waiting] = [undefined, { seconds: 10n }].map((idleTimeout) =>
			subscribe(plugin, { patterns: ["n.*"], idleTimeout }),
		) as [Feed<SubscribeResponse>, Feed<SubscribeResponse>];
		await Promise.all([patient.first("caughtUp"), waiting.first("caughtUp")]);
		// Each event gives the wait its full length again.
		for (let count = 1; count <= 3; count++) {
			clock.skip(6000);
			await plugin.events.emit({ event: { type: "n.n" } });
			await waiting.when(() => eventsOf(waiting).length === count);
		}
		const elsewhere = await plugin.events.emit({ event: { type: "else.where" } });
		clock.skip(16_000);
		await waiting.ended;
		expect(waiting.failure).toMatchObject({ code: "DeadlineExceeded", reason: "IDLE_TIMEOUT" });
		await patient.first("heartbeat");
		// The position has moved past what did not match.
		expect(patient.frames.at(-1)?.position?.sequence).toBeGreaterThanOrEqual(elsewhere.position!.sequence);
	});

	it("hears of plugins that come, change and go", async () => {
		await using hub = await start();
		const [viewer, other] = [
			await hub.enrol("viewer"),
			await hub.enrol("other", { ...ALL_GRANTS, subscribe: ["plugin.*"] }),
		];
		const filter = 'event.subject == "guest"';
		const feeds = [
			subscribe(viewer, { patterns: ["plugin:*"], filter }),
			subscribe(other, { patterns: ["plugin.*"], filter }),
			subscribe(hub.operator, { patterns: ["**"], filter }),
		];
		await Promise.all(feeds.map((feed) => feed.first("caughtUp")));
		const guest = await hub.enrol("guest");
		await guest.plugins.update({ capabilities: { provides: ["tea.pour"] } });
		await hub.operator.plugins.disable({ pluginId: "guest", reason: "noisy" });
		await hub.operator.plugins.enable({ pluginId: "guest" });
		await hub.operator.plugins.unregister({ pluginId: "guest" });
		for (const feed of feeds) {
			await feed.when(() => typesOf(feed).includes("plugin:unregistered"));
			const types = typesOf(feed);
			expect(types.slice(0, 4)).toEqual(["plugin:registered", "plugin:online", "plugin:updated", "plugin:disabled"]);
			expect(types).toContain("plugin:enabled");
			for (const event of eventsOf(feed)) {
				expect(event).toMatchObject({ source: "hub", subject: "guest", payload: { body: { case: "json" } } });
				const told = JSON.parse(event.payload?.body.value as string) as Record<string, unknown>;
				expect(told).toMatchObject({ pluginId: "guest", name: "guest", version: "1.0.0" });
				if (event.type === "plugin:updated") expect(told.capabilities).toMatchObject({ provides: ["tea.pour"] });
				if (event.type === "plugin:disabled") expect(told).toMatchObject({ reason: "noisy", state: "DISABLED" });
			}
		}
		expect(await failureOf(viewer.plugins.register({ manifestJson: manifestOf("guest") }))).toMatchObject({
			reason: "SPOOFED_SOURCE",
		});
	});
});

describeHubs("a subscription that resumes", (start) => {
	it("goes on after the last frame's position, in the same epoch", async () => {
		await using hub = await start();
		const plugin = await hub.enrol("plugin");
		const leave = new AbortController();
		const first = new Feed(plugin.events.subscribe({ patterns: ["n.*"] }, { signal: leave.signal }));
		await first.first("caughtUp");
		for (let index = 0; index < 3; index++) await plugin.events.emit({ event: { type: `n.${index}` } });
		await first.when(() => eventsOf(first).length === 3);
		leave.abort();
		await first.ended;
		for (let index = 3; index < 6; index++) await plugin.events.emit({ event: { type: `n.${index}` } });
		const after = first.frames.at(-1)!.position!;
		const second = subscribe(plugin, { patterns: ["n.*"], start: { from: { case: "after", value: after } } });
		await second.when(() => eventsOf(second).length === 3);
		expect(typesOf(second)).toEqual(["n.3", "n.4", "n.5"]);
		const elsewhere = subscribe(plugin, {
			patterns: ["n.*"],
			start: { from: { case: "after", value: { epoch: "another", sequence: 1n } } },
		});
		await elsewhere.ended;
		expect(elsewhere.failure).toMatchObject({
			code: "OutOfRange",
			reason: "POSITION_TRIMMED",
			metadata: { epoch: after.epoch },
		});
	});

	it("is told the oldest position where its own is trimmed", async () => {
		const clock = new SkippingClock();
		const retention = { maxAgeMs: 0, maxRecords: 5, maxBytes: 0 };
		await using hub = await start({ clock, options: { ...UNHURRIED, retention } });
		const plugin = await hub.enrol("plugin");
		const { position } = await plugin.events.emit({ event: { type: "n.first" } });
		// More than what a backend keeps in one piece, for only whole pieces are dropped.
		for (let batch = 0; batch < 2; batch++) {
			const events = Array.from({ length: 1000 }, () => ({ type: "n.n" }));
			await new Feed(plugin.events.emitStream(new Outbox({ events }).ending())).ended;
		}
		await plugin.events.emit({ event: { type: "n.last" } });
		const isTrimmed = async () => (await plugin.events.listEvents({ patterns: ["n.first"] })).events.length === 0;
		expect(await isTrimmed()).toBe(false);
		clock.skip(31_000);
		await until(isTrimmed);
		const lost = subscribe(plugin, { patterns: ["n.*"], start: { from: { case: "after", value: position! } } });
		await lost.ended;
		expect(lost.failure).toMatchObject({ code: "OutOfRange", reason: "POSITION_TRIMMED" });
		const { epoch, oldest_sequence: oldest } = lost.failure!.metadata;
		expect(epoch).toBe(position?.epoch);
		expect(BigInt(oldest!)).toBeGreaterThan(position!.sequence);
		// What is named as the oldest is there: starting right before it is possible.
		const after = { epoch: epoch!, sequence: BigInt(oldest!) - 1n };
		const kept = subscribe(plugin, {
			patterns: ["n.*"],
			start: { from: { case: "after", value: after } },
			live: false,
		});
		await kept.ended;
		expect(kept.failure).toBeUndefined();
		expect(eventsOf(kept)[0]?.sequence).toBe(BigInt(oldest!));
		expect(typesOf(kept).at(-1)).toBe("n.last");
	});

	it("that reads too slowly is ended with the position to resume from", async () => {
		const clock = new SkippingClock();
		await using hub = await start({ clock, options: UNHURRIED });
		const [writer, reader] = [await hub.enrol("writer"), await hub.enrol("reader")];
		const slow = reader.events.subscribe({ patterns: ["n.*"] })[Symbol.asyncIterator]();
		for (let next = await slow.next(); next.value?.frame.case !== "caughtUp"; next = await slow.next());
		const payload = { body: { case: "binary", value: new Uint8Array(400) } } as const;
		const total = 24_000;
		async function* batches() {
			for (let batch = 0; batch < total / 1000; batch++) {
				yield {
					events: Array.from({ length: 1000 }, (_, index) => ({
						type: "n.n",
						subject: String(batch * 1000 + index),
						payload,
					})),
				};
			}
		}
		await new Feed(writer.events.emitStream(batches())).ended;
		await until(async () =>
			(await reader.events.listSubscriptions({})).subscriptions.every(({ lag }) => lag > 10_000n),
		);
		// What was on its way may still be taken between one look and the next.
		await until(async () => {
			clock.skip(31_000);
			return (await reader.events.listSubscriptions({})).subscriptions.length === 0;
		});
		const seen: string[] = [];
		const failure = await failureOf(
			(async () => {
				for (let next = await slow.next(); !next.done; next = await slow.next()) {
					if (next.value.frame.case === "batch")
						seen.push(...next.value.frame.value.events.map(({ subject }) => subject));
				}
			})(),
		);
		expect(failure).toMatchObject({ code: "ResourceExhausted", reason: "SLOW_CONSUMER" });
		const after = { epoch: failure.metadata.epoch!, sequence: BigInt(failure.metadata.sequence!) };
		const rest = subscribe(reader, {
			patterns: ["n.*"],
			start: { from: { case: "after", value: after } },
			live: false,
		});
		await rest.ended;
		expect([...seen, ...eventsOf(rest).map(({ subject }) => subject)]).toEqual(
			Array.from({ length: total }, (_, index) => String(index)),
		);
	});
});
