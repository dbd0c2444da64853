import { Code } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { connect } from "../../src/client/index.ts";
import { FakeClock } from "../harness/fake-clock.ts";
import { hubError } from "../harness/hub-error.ts";
import { FakeHub } from "./client-fake-hub.ts";
import { open, quiet, until } from "./client-opener.ts";

const manifest = { id: "me", name: "Me", version: "1.0.0" };
const count = (hub: FakeHub, method: string) => hub.calls.filter((call) => call === method).length;

describe("connect", () => {
	it("registers, and renews the lease at a third of its length", async () => {
		const hub = new FakeHub();
		const { client, clock } = await open(hub, { manifest });
		expect(client.state).toBe("ready");
		expect(client.plugin?.id).toBe("me");
		expect(client.instanceId).not.toBe("");
		await clock.advance(60_000);
		expect(count(hub, "Register")).toBe(1);
		expect(count(hub, "Heartbeat")).toBe(6);
	});

	it("registers again when the lease is over", async () => {
		const hub = new FakeHub();
		const states: string[] = [];
		const { client, clock } = await open(hub, { manifest, onStateChange: (state) => states.push(state) });
		const before = client.instanceId;
		hub.forgetInstances();
		await until(clock, () => count(hub, "Register") === 2);
		await clock.advance(0);
		expect(client.instanceId).not.toBe(before);
		expect(states).toEqual(["ready", "reconnecting", "ready"]);
	});

	it("carries the lease on after a loss, without telling anybody", async () => {
		const hub = new FakeHub();
		const { client, clock } = await open(hub, { manifest });
		const before = client.instanceId;
		await client.events.on("n", () => {});
		hub.faults.down = true;
		hub.disconnect();
		await clock.advance(5_000);
		expect(client.state).toBe("reconnecting");
		expect(client.info).toBeUndefined();
		hub.faults.down = false;
		await until(clock, () => client.state === "ready");
		expect(client.instanceId).toBe(before);
		expect(count(hub, "Register")).toBe(1);
	});

	it("waits longer each time, and at most ten seconds", async () => {
		const hub = new FakeHub();
		const { client, clock } = await open(hub, { random: () => 0.999 });
		await client.events.on("n", () => {});
		hub.faults.down = true;
		hub.disconnect();
		const at: number[] = [];
		let seen = hub.calls.length;
		for (let step = 0; step < 600; step++) {
			await clock.advance(100);
			if (hub.calls.length > seen) at.push(clock.monotonic());
			seen = hub.calls.length;
		}
		const waits = at.slice(1).map((time, index) => time - at[index]!);
		expect(waits.slice(0, 4)).toEqual([200, 400, 800, 1600]);
		expect(Math.max(...waits)).toBeLessThanOrEqual(10_000);
	});

	it("tries until its time is over, then says what stood in the way", async () => {
		const hub = new FakeHub();
		hub.faults.down = true;
		const clock = new FakeClock();
		const failed = open(hub, { connectTimeout: 3_000 }, clock).catch((error) => error);
		await clock.advance(3_000);
		expect(await failed).toMatchObject({ reason: "CONNECTION_LOST", message: "connection refused" });
		expect(hub.calls.length).toBeGreaterThan(2);
		expect(clock.pendingTimers).toBe(0);
	});

	it.each([
		["CREDENTIAL_REVOKED", Code.Unauthenticated],
		["PLUGIN_DISABLED", Code.FailedPrecondition],
		["INVALID_MANIFEST", Code.InvalidArgument],
	])("gives up on %s", async (reason, code) => {
		const hub = new FakeHub();
		hub.faults.refuse.set("Register", { reason, code, times: 9 });
		await expect(open(hub, { manifest })).rejects.toMatchObject({ reason, code });
		expect(hub.calls).toEqual(["Register"]);
	});

	it("fails for good when the hub refuses it later, and tells everyone who waits", async () => {
		const hub = new FakeHub();
		const states: unknown[] = [];
		const { client, clock } = await open(hub, {
			manifest,
			onStateChange: (state, error) => states.push([state, error?.reason]),
		});
		const subscription = await client.events.on("n", () => {});
		hub.faults.refuse.set("Heartbeat", { reason: "CREDENTIAL_REVOKED", code: Code.Unauthenticated, times: 9 });
		await clock.advance(10_000);
		expect(states).toEqual([
			["ready", undefined],
			["failed", "CREDENTIAL_REVOKED"],
		]);
		expect((await subscription.closed)?.reason).toBe("CREDENTIAL_REVOKED");
		await expect(client.events.emit("n")).rejects.toMatchObject({ reason: "CREDENTIAL_REVOKED" });
	});

	it("uses the token that a development hub gives", async () => {
		const hub = new FakeHub();
		const { client } = await open(hub, { manifest, token: undefined });
		await client.events.emit("n");
		expect(hub.tokens).toEqual([null, "Bearer me", "Bearer me"]);
	});

	it("asks the source of tokens at each connection", async () => {
		const hub = new FakeHub();
		let number = 0;
		const { client, clock } = await open(hub, { token: async () => `t${++number}` });
		await client.events.on("n", () => {});
		hub.disconnect();
		await until(clock, () => hub.tokens.includes("Bearer t2"));
	});

	it("notices a stream that fell silent", async () => {
		const hub = new FakeHub();
		const { client, clock } = await open(hub);
		await client.events.on("n", () => {});
		await clock.advance(46_000);
		await until(clock, () => hub.subscribeRequests.length === 2);
	});

	it("reads the details of an error", async () => {
		const hub = new FakeHub();
		hub.faults.refuse.set("GetHubInfo", { reason: "CREDENTIAL_INVALID", code: Code.Unauthenticated, times: 1 });
		const error = await connect({ url: "http://unused", transport: hub.transport(), logger: quiet }).catch((e) => e);
		expect(error).toMatchObject({ name: "HubClientError", reason: "CREDENTIAL_INVALID", code: Code.Unauthenticated });
		expect(error.cause).toBeDefined();
		expect(hubError("NO_ROUTE", Code.NotFound).code).toBe(Code.NotFound);
	});

	it("ends its streams and timers when disposed of, and can be disposed of again", async () => {
		const hub = new FakeHub();
		const { client, clock } = await open(hub, { manifest });
		await client.events.on("n", () => {});
		await client.events.emit("n");
		await client.messages.handle("x", () => {}).ready;
		expect(hub.openStreams).toBe(3);
		expect(clock.pendingTimers).toBeGreaterThan(0);
		await client[Symbol.asyncDispose]();
		await client.close();
		await clock.advance(0);
		expect(client.state).toBe("closed");
		expect(hub.openStreams).toBe(0);
		expect(clock.pendingTimers).toBe(0);
	});
});
