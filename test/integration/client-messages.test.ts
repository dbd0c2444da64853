import { createClient } from "@connectrpc/connect";
import { describe, expect, it, vi } from "vitest";
import { MessagingService } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { HandlerError, type HubClientError, RemoteError } from "../../src/client/exports.ts";
import { FakeHub } from "./client-fake-hub.ts";
import { open, until } from "./client-opener.ts";

const MODES = [
	{ mode: "streams", bidi: true },
	{ mode: "unary calls, as in a browser", bidi: false },
];

describe.each(MODES)("messages over $mode", ({ bidi }) => {
	it("requests, and gives the handler what was asked and by whom", async () => {
		const hub = new FakeHub();
		const { client: ada } = await open(hub, { token: "ada", bidi });
		const { client: bob } = await open(hub, { token: "bob", bidi });
		const seen: unknown[] = [];
		await bob.messages.handle("greet.*", async (request) => {
			seen.push([request.type, request.source, request.requiresResponse, request.attempt, request.attributes.a]);
			return { hello: request.data.name };
		}).ready;
		const reply = await ada.messages.request("bob", "greet:politely", { name: "Ada" }, { attributes: { a: "b" } });
		expect(reply.data).toEqual({ hello: "Ada" });
		expect(reply.source).toBe("bob");
		expect(seen).toEqual([["greet:politely", "ada", true, 1, "b"]]);
		const replies = await Promise.all(
			Array.from({ length: 50 }, (_, n) => ada.messages.request("bob", "greet.x", { name: n })),
		);
		expect(replies.map((one) => one.data.hello)).toEqual(Array.from({ length: 50 }, (_, n) => n));
	});

	it("passes what a handler throws on as a RemoteError", async () => {
		const hub = new FakeHub();
		const { client: ada } = await open(hub, { token: "ada", bidi });
		const { client: bob } = await open(hub, { token: "bob", bidi });
		bob.messages.handle("busy", () => {
			throw new HandlerError("busy", "not now", { nonRetryable: true, retryAfterMs: 1500, details: { free: 7 } });
		});
		await bob.messages.handle("bad", () => Promise.reject(new TypeError("oh"))).ready;
		const busy = await ada.messages.request("bob", "busy").catch((error) => error);
		expect(busy).toBeInstanceOf(RemoteError);
		expect(busy).toMatchObject({
			type: "busy",
			message: "not now",
			nonRetryable: true,
			retryAfterMs: 1500,
			source: "bob",
		});
		expect(busy.details).toEqual({ free: 7 });
		await expect(ada.messages.request("bob", "bad")).rejects.toMatchObject({ type: "TypeError", nonRetryable: false });
		await expect(ada.messages.request("bob", "unheard")).rejects.toMatchObject({
			type: "no_handler",
			nonRetryable: true,
		});
		await expect(ada.messages.request("nobody", "x")).rejects.toMatchObject({ reason: "RECIPIENT_UNAVAILABLE" });
	});

	it("settles one-way messages by what their handler does", async () => {
		const hub = new FakeHub();
		const { client: ada } = await open(hub, { token: "ada", bidi });
		const { client: bob } = await open(hub, { token: "bob", bidi });
		bob.messages.handle("fails", () => {
			throw new HandlerError("later", "later", { retryAfterMs: 2000 });
		});
		bob.messages.handle("hopeless", () => {
			throw new HandlerError("never", "never", { nonRetryable: true });
		});
		await bob.messages.handle("works", () => {}).ready;
		for (const type of ["works", "fails", "hopeless", "unheard"]) {
			expect(await ada.messages.send("bob", type)).toMatchObject({ disposition: "delivered", duplicate: false });
			await vi.waitFor(() => expect(hub.settlements.at(-1)).toBeDefined());
			await vi.waitFor(() =>
				expect(hub.settlements).toHaveLength(["works", "fails", "hopeless", "unheard"].indexOf(type) + 1),
			);
		}
		expect(hub.settlements.map(({ outcome }) => outcome.case)).toEqual([
			"acknowledge",
			"negative",
			"terminate",
			"terminate",
		]);
		expect(hub.settlements[1]?.outcome.value).toMatchObject({ delay: { seconds: 2n } });
	});

	it("aborts the handler when the caller gives up, and when its time is over", async () => {
		const hub = new FakeHub();
		const { client: ada, clock } = await open(hub, { token: "ada", bidi });
		const { client: bob } = await open(hub, { token: "bob", bidi });
		const reasons: unknown[] = [];
		let started = 0;
		await bob.messages.handle("slow", async (_, { signal }) => {
			started++;
			await new Promise((resolve) => signal.addEventListener("abort", resolve));
			reasons.push(signal.reason.reason);
		}).ready;
		const abort = new AbortController();
		const given = ada.messages.request("bob", "slow", 1, { signal: abort.signal }).catch((error) => error);
		await vi.waitFor(() => expect(started).toBe(1));
		abort.abort();
		expect((await given).reason).toBe("CANCELLED");
		const late = ada.messages.request("bob", "slow", 1, { timeout: 3_000 }).catch((error) => error);
		await vi.waitFor(() => expect(started).toBe(2));
		await clock.advance(3_000);
		expect((await late).reason).toBe("DEADLINE_EXCEEDED");
		await vi.waitFor(() => expect(reasons).toEqual(["CANCELLED", "CANCELLED"]));
	});

	it("refuses a wait that is no time, and nothing but that", async () => {
		const hub = new FakeHub();
		const { client: ada } = await open(hub, { token: "ada", bidi });
		const { client: bob } = await open(hub, { token: "bob", bidi });
		await bob.messages.handle("work", ({ data }) => data).ready;
		const others = [ada.messages.request("bob", "work", 1)];
		for (const timeout of [Number.POSITIVE_INFINITY, Number.NaN, 1e20]) {
			await expect(ada.messages.request("bob", "work", 2, { timeout })).rejects.toThrow(RangeError);
			others.push(ada.messages.request("bob", "work", 1));
		}
		expect((await Promise.all(others)).map((reply) => reply.data)).toEqual([1, 1, 1, 1]);
	});

	it("after a loss fails what may have been done, repeats what does no harm, and receives again", async () => {
		const hub = new FakeHub();
		const { client: ada, clock } = await open(hub, { token: "ada", bidi });
		const { client: bob, clock: bobs } = await open(hub, { token: "bob", bidi });
		let calls = 0;
		let lost = 0;
		const release = Promise.withResolvers<void>();
		await bob.messages.handle("work", async (_, { signal }) => {
			signal.addEventListener("abort", () => lost++);
			if (++calls <= 2) await release.promise;
			return calls;
		}).ready;
		const once = ada.messages.request("bob", "work").catch((error: HubClientError) => error.reason);
		const again = ada.messages.request("bob", "work", 1, { idempotent: true, timeout: 60_000 });
		await vi.waitFor(() => expect(calls).toBe(2));
		hub.faults.down = true;
		hub.disconnect();
		expect(await once).toBe("CONNECTION_LOST");
		await vi.waitFor(() => expect(lost).toBe(2));
		release.resolve();
		const waiting = ada.messages.request("bob", "work", 1, { timeout: 60_000 });
		hub.faults.down = false;
		await until(bobs, () => bob.state === "ready");
		await bobs.advance(1_000);
		await until(clock, () => calls >= 4);
		expect((await again).data).toBeGreaterThan(2);
		expect((await waiting).data).toBeGreaterThan(2);
	});
});

describe("handlers", () => {
	it("prefers the type that is named exactly, and stops when disposed of", async () => {
		const hub = new FakeHub();
		const { client: ada } = await open(hub, { token: "ada" });
		const { client: bob } = await open(hub, { token: "bob" });
		bob.messages.handle("**", () => "any");
		const exact = bob.messages.handle("a.b", () => "exact");
		await exact.ready;
		expect((await ada.messages.request("bob", "a.b")).data).toBe("exact");
		exact[Symbol.dispose]();
		expect((await ada.messages.request("bob", "a.b")).data).toBe("any");
		expect(() => bob.messages.handle("a..b", () => {})).toThrow(/token/);
	});

	it("sends bytes and JSON as they are", async () => {
		const hub = new FakeHub();
		const { client: ada } = await open(hub, { token: "ada" });
		const { client: bob } = await open(hub, { token: "bob" });
		await bob.messages.handle("echo", (request) => request.data).ready;
		expect((await ada.messages.request("bob", "echo", new Uint8Array([1, 2]))).data).toEqual(new Uint8Array([1, 2]));
		expect((await ada.messages.request("bob", "echo", [null, "ä"])).data).toEqual([null, "ä"]);
		expect((await ada.messages.request("bob", "echo")).data).toBeUndefined();
		await expect(ada.messages.request("bob", "echo", () => {})).rejects.toThrow(TypeError);
	});

	it("leaves the generated clients usable", async () => {
		const hub = new FakeHub();
		const { client: ada } = await open(hub, { token: "ada" });
		const raw = createClient(MessagingService, ada.transport);
		const message = { to: { target: { case: "pluginId" as const, value: "x" } }, message: { type: "a" } };
		await expect(raw.send(message)).rejects.toThrow(/recipient_unavailable/);
		expect(hub.tokens.at(-1)).toBe("Bearer ada");
	});
});
