import { describe, expect, it, onTestFinished, vi } from "vitest";
import type { HubClient, HubClientOptions, HubEvent } from "../../src/client/exports.ts";
import { connect } from "../../src/client/index.ts";
import { connect as connectWeb } from "../../src/client/web.ts";
import { ALL_GRANTS, describeHubs, manifestOf, TestHub, until } from "../harness/hub.ts";
import { quiet } from "./client-opener.ts";

type Connect = typeof connect | typeof connectWeb;

/** A client of a plugin that may do everything. Closed before the hub is. */
async function plugin(
	hub: TestHub,
	id: string,
	options: HubClientOptions = {},
	open: Connect = connect,
): Promise<HubClient> {
	const { admin } = hub.operator;
	const { token } = await admin.issueCredential({ principal: { case: "pluginId", value: id } });
	await admin.setPermissions({ pluginId: id, permissions: ALL_GRANTS });
	return open({ url: hub.url, token, manifest: manifestOf(id), logger: quiet, ...options });
}

describeHubs("the client", (start) => {
	it("registers, emits, subscribes, replays and lists", async () => {
		await using hub = await start();
		await using ada = await plugin(hub, "ada");
		await using bob = await plugin(hub, "bob");
		expect(ada.plugin?.id).toBe("ada");
		expect(ada.info?.version).toBe("0.0.0-test");
		const seen: HubEvent[] = [];
		await bob.events.on("task.*", (event) => void seen.push(event));
		const results = await Promise.all(
			Array.from({ length: 300 }, (_, n) =>
				ada.events.emit("task.created", { n }, { subject: `s${n}`, attributes: { n: `${n}` } }),
			),
		);
		await until(() => seen.length === 300);
		expect(seen.map((event) => event.data.n)).toEqual(Array.from({ length: 300 }, (_, n) => n));
		expect(seen.map((event) => event.position)).toEqual(results.map((result) => result.position));
		expect(seen[7]).toMatchObject({ source: "ada", subject: "s7", attributes: { n: "7" }, isReplay: false });
		const again = await ada.events.emit("task.created", { n: 1 }, { id: "mine" });
		expect(await ada.events.emit("task.created", { n: 1 }, { id: "mine" })).toEqual({ ...again, duplicate: true });
		const replayed: number[] = [];
		for await (const event of bob.events.replay("task.*", { from: results[289]!.position })) {
			expect(event.isReplay).toBe(true);
			replayed.push(event.data.n);
		}
		expect(replayed).toEqual([290, 291, 292, 293, 294, 295, 296, 297, 298, 299, 1]);
		const listed: number[] = [];
		for await (const event of bob.events.list("task.*", { order: "newest-first", pageSize: 100 }))
			listed.push(event.data.n);
		expect(listed).toHaveLength(301);
		expect(listed.slice(0, 3)).toEqual([1, 299, 298]);
		const open = [];
		for await (const subscription of bob.events.subscriptions()) open.push(subscription.patterns);
		expect(open).toEqual([["task.*"]]);
		await expect(bob.events.on("task..x", () => {})).rejects.toMatchObject({ reason: "INVALID_PATTERN" });
	});

	it("requests, answers, cancels and sends", async () => {
		await using hub = await start();
		await using ada = await plugin(hub, "ada");
		await using bob = await plugin(hub, "bob");
		const told: string[] = [];
		let aborted = 0;
		bob.messages.handle("told", (message) => void told.push(message.data));
		bob.messages.handle("slow", async (_, { signal }) => {
			await new Promise((resolve) => signal.addEventListener("abort", resolve));
			aborted++;
		});
		await bob.messages.handle("double", async (request) => request.data * 2).ready;
		const replies = await Promise.all(Array.from({ length: 100 }, (_, n) => ada.messages.request("bob", "double", n)));
		expect(replies.map((reply) => reply.data)).toEqual(Array.from({ length: 100 }, (_, n) => 2 * n));
		const abort = new AbortController();
		setTimeout(() => abort.abort(), 50);
		await expect(ada.messages.request("bob", "slow", 1, { signal: abort.signal })).rejects.toMatchObject({
			reason: "CANCELLED",
		});
		await expect(ada.messages.request("bob", "slow", 1, { timeout: 80 })).rejects.toMatchObject({
			reason: "DEADLINE_EXCEEDED",
		});
		await until(() => aborted === 2);
		expect(await ada.messages.send("bob", "told", "hello")).toMatchObject({ duplicate: false });
		await until(() => told.length === 1);
		await expect(ada.messages.request("bob", "unheard")).rejects.toMatchObject({ type: "no_handler" });
		await expect(ada.messages.request("nobody", "x")).rejects.toMatchObject({ reason: "NO_ROUTE" });
	});

	it("does the same from a browser", async () => {
		await using hub = await start({ options: { drainMs: 50 } });
		await using ada = await plugin(hub, "ada", {}, connectWeb);
		await using bob = await plugin(hub, "bob", {}, connectWeb);
		const seen: number[] = [];
		await bob.events.on("n", (event) => void seen.push(event.data));
		for (let n = 0; n < 10; n++) await ada.events.emit("n", n);
		await until(() => seen.length === 10);
		expect(seen).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
		await bob.messages.handle("double", (request) => request.data * 2).ready;
		expect((await ada.messages.request("bob", "double", 21)).data).toBe(42);
		expect((await ada.messages.send("bob", "double", 1)).duplicate).toBe(false);
		await ada.close();
		await bob.close();
		await until(() => hub.running.open().calls === 0);
		// `fetch` keeps connections for later, which the hub's own check would take for leaks.
		await hub.running.stop();
	});
});

describe("a client whose hub restarts", () => {
	it("loses no event and repeats none", async () => {
		const first = await TestHub.start({ options: { state: "embedded" } });
		const { port } = new URL(first.url);
		const bob = await plugin(first, "bob");
		const ada = await plugin(first, "ada");
		onTestFinished(async () => {
			await ada.close();
			await bob.close();
		});
		const seen: number[] = [];
		await bob.events.on("n", (event) => void seen.push(event.data));
		const emitted: Promise<unknown>[] = [];
		for (let n = 0; n < 50; n++) emitted.push(ada.events.emit("n", n));
		await Promise.all(emitted);
		await first.running.stop();
		await until(() => ada.state === "reconnecting" && bob.state === "reconnecting");
		for (let n = 50; n < 100; n++) emitted.push(ada.events.emit("n", n));
		await using _second = await TestHub.start({
			directory: first.directory,
			options: { state: "embedded", listen: { host: "127.0.0.1", port: Number(port) } },
		});
		await Promise.all(emitted);
		await vi.waitFor(() => expect(seen).toHaveLength(100), { timeout: 15_000 });
		expect(seen).toEqual(Array.from({ length: 100 }, (_, n) => n));
		await ada.close();
		await bob.close();
	});
});

describe("revocation", () => {
	it("ends the client with the reason", async () => {
		await using hub = await TestHub.start();
		await using ada = await plugin(hub, "ada");
		const subscription = await ada.events.on("n", () => {});
		await hub.operator.admin.revokeCredential({ target: { case: "pluginId", value: "ada" } });
		expect((await subscription.closed)?.reason).toMatch(/^CREDENTIAL_/);
	});
});

describe("a development hub", () => {
	it("gives a token to a plugin that has none", async () => {
		await using hub = await TestHub.start({ options: { dev: true } });
		await using ada = await connect({ url: hub.url, manifest: manifestOf("ada"), logger: quiet });
		expect(ada.plugin?.id).toBe("ada");
	});
});
