import { expect, it } from "vitest";
import { HandlerError, type HubClient } from "../../src/client/exports.ts";
import { connect } from "../../src/client/index.ts";
import { connect as connectWeb } from "../../src/client/web.ts";
import { ALL_GRANTS, describeHubs, manifestOf, type TestHub, until } from "../harness/hub.ts";
import { quiet } from "./client-opener.ts";

type Connect = typeof connect | typeof connectWeb;

async function plugin(hub: TestHub, id: string, open: Connect = connect): Promise<HubClient> {
	const { admin } = hub.operator;
	const { token } = await admin.issueCredential({ principal: { case: "pluginId", value: id } });
	await admin.setPermissions({ pluginId: id, permissions: ALL_GRANTS });
	return open({ url: hub.url, token, manifest: manifestOf(id), logger: quiet });
}

describeHubs("the client's durable subscriptions", (start) => {
	it.each([
		["streams both ways", connect],
		["calls", connectWeb],
	] as const)("acknowledge what is handled, repeat what is not, and go on later: by %s", async (_, open) => {
		await using hub = await start();
		const writer = await plugin(hub, "writer");
		const reader = await plugin(hub, "reader", open);
		const jobs = reader.events.durable<{ n: number }>("jobs", { patterns: "job.*", maxDeliveries: 3 });
		const handled: string[] = [];
		const failed: unknown[] = [];
		const consumer = jobs.consume(
			async (event, { attempt }) => {
				await Promise.resolve();
				if (event.data.n === 1 && attempt === 1) throw new Error("once more");
				if (event.data.n === 2) throw new HandlerError("broken", "never again", { nonRetryable: true });
				handled.push(`${event.data.n}/${attempt}`);
			},
			{ onError: (error) => failed.push((error as Error).message) },
		);
		await consumer.ready;
		for (let n = 0; n < 4; n++) await writer.events.emit("job.new", { n });
		await until(() => handled.length === 3);
		expect([...handled].sort()).toEqual(["0/1", "1/2", "3/1"]);
		expect([...failed].sort()).toEqual(["never again", "once more"]);
		await consumer.stop();
		expect((await jobs.info()).status).toMatchObject({ acknowledged: 3n, dead: 1n, lag: 0n });
		const letters = await Array.fromAsync(reader.deadLetters.list({ origin: "subscription/jobs" }));
		expect(letters).toMatchObject([
			{ kind: "event", type: "job.new", subscription: "jobs", source: "writer", attempts: 1, data: undefined },
		]);
		const letter = await reader.deadLetters.get<{ n: number }>(letters[0]!.id);
		expect(letter).toMatchObject({ data: { n: 2 }, reason: "terminated: never again", origin: "subscription/jobs" });
		if (letter.kind !== "event") throw new Error("not an event");
		expect(letter.position.epoch).not.toBe("");
		expect((await reader.deadLetters.redrive({ all: true, origin: "mailbox" })).ids).toEqual([]);
		expect((await reader.deadLetters.redrive(letter.id)).ids).toEqual([letter.id]);
		const back: string[] = [];
		const repaired = jobs.consume((event, { attempt }) => void back.push(`${event.id} ${event.data.n}/${attempt}`));
		await until(() => back.length === 1);
		expect(back).toEqual([`${letter.eventId} 2/1`]);
		await repaired.stop();
		expect(await Array.fromAsync(reader.deadLetters.list())).toEqual([]);
		await writer.events.emit("job.new", { n: 7 });
		const again = reader.events.durable<{ n: number }>("jobs", { patterns: "job.*" }).consume((event) => {
			handled.push(`${event.data.n}`);
		});
		await until(() => handled.includes("7"));
		await jobs.reset("everything");
		await until(() => handled.filter((each) => each === "0").length === 1);
		await again.stop();
		const other = reader.events.durable("jobs", { patterns: "other" }).consume(() => {}, { onError: () => {} });
		await expect(other.ready).rejects.toMatchObject({ reason: "SUBSCRIPTION_EXISTS" });
		await jobs.delete();
		await expect(jobs.info()).rejects.toMatchObject({ reason: "SUBSCRIPTION_NOT_FOUND" });
		await writer.close();
		await reader.close();
		await until(() => hub.running.open().calls === 0);
		// `fetch` keeps connections for later, which the hub's own check would take for leaks.
		await hub.running.stop();
	});
});
