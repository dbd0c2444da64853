import { expect, it } from "vitest";
import { openEveryStream } from "../harness/every-stream.ts";
import { failureOf } from "../harness/failure.ts";
import { Feed } from "../harness/feed.ts";
import { describeHubs, TestHub, until } from "../harness/hub.ts";
import { Outbox } from "../harness/outbox.ts";

describeHubs("a hub that stops", (start) => {
	it("tells every stream, and is gone soon after", async () => {
		await using hub = await start();
		const plugins = await Promise.all(["one", "two", "three"].map((id) => hub.enrol(id)));
		const streams = await Promise.all(plugins.map((plugin) => openEveryStream(plugin, ["a.b"])));
		const asked = failureOf(
			plugins[0]!.messaging.request({
				to: { target: { case: "pluginId", value: "two" } },
				message: { type: "do.it" },
			}),
		);
		const { attach, receive } = streams[1]!.feeds;
		await until(() => attach.all("batch").length + receive.all("batch").length > 0);
		const since = performance.now();
		await hub.running.stop();
		expect(performance.now() - since).toBeLessThan(5000);
		for (const { feeds } of streams) {
			for (const [kind, feed] of Object.entries(feeds)) {
				await feed.ended;
				expect([kind, feed.cases.at(-1)]).toEqual([kind, "draining"]);
				expect(feed.failure, kind).toMatchObject({ code: "Unavailable", reason: "HUB_DRAINING" });
			}
			expect(feeds.subscribe.frames.at(-1)?.position?.epoch).not.toBe("");
			expect(feeds.watch.frames.at(-1)?.position).toBeDefined();
		}
		expect((await asked).code).toBe("Unavailable");
		expect(Object.values(hub.running.open()).every((count) => count === 0)).toBe(true);
		// Stopping again is nothing new.
		await hub.running.stop();
	});

	it("does not wait for a peer that reads nothing", async () => {
		await using hub = await start({ options: { drainMs: 500 } });
		const [writer, reader] = [await hub.enrol("writer"), await hub.enrol("reader")];
		const stalled = reader.events.subscribe({ patterns: ["n.n"] })[Symbol.asyncIterator]();
		for (let next = await stalled.next(); next.value?.frame.case !== "caughtUp"; next = await stalled.next());
		const healthy = await openEveryStream(writer, ["a.b"]);
		const payload = { body: { case: "binary", value: new Uint8Array(1000) } } as const;
		const events = Array.from({ length: 1000 }, () => ({ type: "n.n", payload }));
		for (let batchId = 1n; batchId <= 10n; batchId++) healthy.batches.push({ batchId, events });
		const { emitStream } = healthy.feeds;
		await emitStream.when(() => emitStream.all("acknowledgement").length === 10);
		const since = performance.now();
		await hub.running.stop();
		expect(performance.now() - since).toBeLessThan(5000);
		for (const [kind, feed] of Object.entries(healthy.feeds)) {
			await feed.ended;
			expect([kind, feed.cases.at(-1), feed.failure?.reason]).toEqual([kind, "draining", "HUB_DRAINING"]);
		}
		await expect(
			(async () => {
				for (let next = await stalled.next(); !next.done; next = await stalled.next());
			})(),
		).rejects.toThrow();
	});

	it("keeps what it acknowledged, and resumes subscribers after where they were", async () => {
		await using first = await start();
		const { directory, options } = first;
		const isDurable = options.state === "embedded";
		const writer = await first.enrol("writer");
		const { token } = writer;
		const reader = new Feed(writer.events.subscribe({ patterns: ["n.n"] }));
		await reader.first("caughtUp");
		const batches = new Outbox<{ batchId: bigint; events: { id: string; type: string }[] }>();
		const answers = new Feed(writer.events.emitStream(batches));
		let sent = 0;
		const push = () => {
			const batchId = BigInt(sent++);
			batches.push({
				batchId,
				events: Array.from({ length: 20 }, (_, index) => ({ id: `${batchId}-${index}`, type: "n.n" })),
			});
		};
		for (let count = 0; count < 20; count++) push();
		await answers.when(() => answers.all("acknowledgement").length >= 10);
		// More is under way while the hub stops.
		for (let count = 0; count < 20; count++) push();
		const stopped = first.running.stop();
		for (let count = 0; count < 20; count++) push();
		await stopped;
		await Promise.all([answers.ended, reader.ended]);
		expect(answers.cases.at(-1)).toBe("draining");
		const acknowledged = answers
			.all("acknowledgement")
			.flatMap(({ batchId, stored }) => Array.from({ length: stored }, (_, index) => `${batchId}-${index}`));
		expect(acknowledged.length).toBeGreaterThanOrEqual(200);
		const seen = reader.all("batch").flatMap(({ events }) => events.map(({ id }) => id));
		const position = reader.frames.at(-1)!.position!;

		if (isDurable) {
			await using again = await TestHub.start({ directory, options });
			const back = again.connect(token);
			const rest = new Feed(
				back.events.subscribe({ patterns: ["n.n"], start: { from: { case: "after", value: position } }, live: false }),
			);
			await rest.ended;
			expect(rest.failure).toBeUndefined();
			const all = [...seen, ...rest.all("batch").flatMap(({ events }) => events.map(({ id }) => id))];
			expect(new Set(all).size).toBe(all.length);
			expect(all.slice(0, acknowledged.length)).toEqual(acknowledged);
			// What was not acknowledged is there whole or not at all, in its order.
			expect(all).toEqual(Array.from({ length: all.length }, (_, index) => `${Math.floor(index / 20)}-${index % 20}`));
			const { position: next } = await back.events.emit({ event: { type: "n.n" } });
			expect(next?.epoch).toBe(position.epoch);
		}
	});
});
