import { expect, it } from "vitest";
import { HandlerError, type HubClient, type HubClientOptions } from "../../src/client/exports.ts";
import { connect } from "../../src/client/index.ts";
import { connect as connectWeb } from "../../src/client/web.ts";
import { ALL_GRANTS, describeHubs, manifestOf, type TestHub, until } from "../harness/hub.ts";
import { quiet } from "./client-opener.ts";

async function tokenOf(hub: TestHub, id: string): Promise<string> {
	const { admin } = hub.operator;
	const { token } = await admin.issueCredential({ principal: { case: "pluginId", value: id } });
	await admin.setPermissions({ pluginId: id, permissions: ALL_GRANTS });
	return token;
}

async function plugin(hub: TestHub, id: string, options: HubClientOptions = {}, open = connect): Promise<HubClient> {
	return open({ url: hub.url, token: await tokenOf(hub, id), manifest: manifestOf(id), logger: quiet, ...options });
}

describeHubs("durable messages of the client", (start) => {
	it("are sent by default, wait, come again after a failure, and are dead in the end", async () => {
		await using hub = await start();
		await using ada = await plugin(hub, "ada");
		{
			await using bob = await plugin(hub, "bob");
			expect(bob.info?.features?.durableMessages).toBe(true);
		}
		const sent = await ada.messages.send("bob", "job.good", { n: 1 });
		expect(sent.disposition).toBe("queued");
		await ada.messages.send("bob", "job.flaky", { n: 2 });
		await ada.messages.send("bob", "job.bad", { n: 3 });
		await ada.messages.send("bob", "job.poison", { n: 4 });
		await using bob = await plugin(hub, "bob", { delivery: { maxDeliveries: 3, backoff: [10] } });
		const seen: string[] = [];
		await bob.messages.handle("job.*", (message) => {
			seen.push(`${message.type} ${message.attempt}`);
			if (message.type === "job.flaky" && message.attempt === 1) throw new Error("not now");
			if (message.type === "job.bad") throw new Error("never");
			if (message.type === "job.poison") throw new HandlerError("unreadable", "makes no sense", { nonRetryable: true });
		}).ready;
		await until(async () => (await deadTypes(bob)).length === 2);
		expect(seen.sort()).toEqual([
			"job.bad 1",
			"job.bad 2",
			"job.bad 3",
			"job.flaky 1",
			"job.flaky 2",
			"job.good 1",
			"job.poison 1",
		]);
		const letters = [];
		for await (const letter of bob.deadLetters.list()) letters.push(letter);
		expect(letters.map(({ type, attempts, reason }) => [type, attempts, reason])).toEqual(
			expect.arrayContaining([
				["job.poison", 1, "terminated: makes no sense"],
				["job.bad", 3, "refused by its recipient, in delivery 3"],
			]),
		);
		const bad = letters.find(({ type }) => type === "job.bad")!;
		expect(await bob.deadLetters.get(bad.id)).toMatchObject({
			...{ kind: "message", origin: "mailbox", data: { n: 3 }, source: "ada", pluginId: "bob" },
		});
		expect((await bob.deadLetters.redrive(bad.id)).ids).toEqual([bad.id]);
		await expect(bob.deadLetters.get(bad.id)).rejects.toMatchObject({ reason: "DEAD_LETTER_NOT_FOUND" });
		await until(() => seen.filter((line) => line.startsWith("job.bad")).length === 6);
		await until(async () => (await deadTypes(bob)).length === 2);
		const deleted = await bob.deadLetters.delete({ all: true });
		expect(deleted).toMatchObject({ failures: [], more: false });
		expect(deleted.ids).toHaveLength(2);
		expect(await deadTypes(bob)).toEqual([]);
	});

	it("are not given to another instance while their handler is at work, by calls too", async () => {
		await using hub = await start({ options: { drainMs: 50 } });
		await using ada = await plugin(hub, "ada");
		const token = await tokenOf(hub, "bob");
		for (const open of [connect, connectWeb]) {
			const options = { url: hub.url, token, manifest: manifestOf("bob"), logger: quiet, delivery: { ackWait: 300 } };
			await using bob = await open(options);
			const attempts: number[] = [];
			let done = false;
			await bob.messages.handle("slow", async (message) => {
				attempts.push(message.attempt);
				await new Promise((resolve) => setTimeout(resolve, 1000));
				done = true;
			}).ready;
			await ada.messages.send("bob", "slow");
			await until(() => done);
			expect(attempts).toEqual([1]);
		}
		await ada.close();
		await until(() => hub.running.open().calls === 0);
		// `fetch` keeps connections for later, which the hub's own check would take for leaks.
		await hub.running.stop();
	});

	it("are repeated after a loss without being doubled, and may wait for their time", async () => {
		await using hub = await start();
		await using ada = await plugin(hub, "ada");
		await using bob = await plugin(hub, "bob");
		const seen: number[] = [];
		const first = await ada.messages.send("bob", "note", { n: 0 }, { id: "mine" });
		expect(await ada.messages.send("bob", "note", { n: 0 }, { id: "mine" })).toEqual({ ...first, duplicate: true });
		const other = ada.messages.send("bob", "note", { n: 1 }, { id: "mine" });
		await expect(other).rejects.toMatchObject({ reason: "ID_REUSED" });
		const deliverAt = new Date(Date.now() + 400);
		await ada.messages.send("bob", "note", { n: 2 }, { deliverAt });
		const arrived: number[] = [];
		await bob.messages.handle("note", (message) => {
			seen.push(message.data.n);
			arrived.push(Date.now());
		}).ready;
		await until(() => seen.length === 2);
		expect(seen).toEqual([0, 2]);
		expect(arrived[1]!).toBeGreaterThanOrEqual(deliverAt.getTime());
	});
});

async function deadTypes(client: HubClient): Promise<string[]> {
	const types: string[] = [];
	for await (const letter of client.deadLetters.list()) types.push(letter.type);
	return types;
}
