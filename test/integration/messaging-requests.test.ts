import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Disposition, Durability } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { HubError } from "../../src/hub-error.ts";
import type { AttachPeer } from "../harness/messaging-peers.ts";
import { MessagingRig } from "../harness/messaging-rig.ts";
import { refusal } from "../harness/refusal.ts";
import { settled } from "../harness/settled.ts";

let rig: MessagingRig;
let bob: AttachPeer;
beforeEach(async () => {
	rig = new MessagingRig();
	bob = await rig.attach("bob");
});
afterEach(async () => {
	bob.vanish();
	await settled();
	expect(rig.held).toEqual({ recipients: 0, pendingReplies: 0, deadlines: 0, streams: 0 });
	rig[Symbol.dispose]();
	expect(rig.clock.pendingTimers).toBe(0);
});

const to = (value: string) => ({ target: { case: "pluginId", value } }) as const;
const ask = (seconds?: number) => ({
	to: to("bob"),
	message: { type: "ask" },
	timeout: seconds === undefined ? undefined : { seconds: BigInt(seconds) },
});

describe("Request", () => {
	test("waits for the reply, which arrives as the handler wrote it", async () => {
		const answer = rig.request("alice", ask());
		const [delivery] = await bob.deliveries();
		expect(delivery!.message).toMatchObject({ source: "alice", requiresResponse: true, attempt: 1 });
		expect(delivery!.timeLeft!.seconds).toBe(30n);
		bob.reply(delivery!.deliveryId, '{"n":1}');
		expect(await answer).toMatchObject({ id: delivery!.message!.id, source: "bob", reply: { success: true } });
		expect((await answer).reply!.data!.body.value).toBe('{"n":1}');
	});

	test("takes a handler's failure for data", async () => {
		const answer = rig.request("alice", ask());
		const deliveryId = (await bob.deliveries())[0]!.deliveryId;
		const error = { type: "busy", message: "later", nonRetryable: false, retryAfter: { seconds: 5n } };
		bob.up({ frame: { case: "reply", value: { deliveryId, reply: { success: false, error } } } });
		expect((await answer).reply).toMatchObject({ success: false, error: { type: "busy", message: "later" } });
	});

	test("ends at its timeout, and the handler hears of it", async () => {
		const answer = refusal(rig.request("alice", ask(2)));
		const [delivery] = await bob.deliveries();
		await rig.clock.advance(2000);
		expect((await answer).reason).toBe("DEADLINE_EXCEEDED");
		expect(await bob.expect("cancelled")).toMatchObject({
			deliveryId: delivery!.deliveryId,
			reason: "DEADLINE_EXCEEDED",
		});
		bob.reply(delivery!.deliveryId, "1");
		const { failures } = await bob.expect("failures");
		expect(failures[0]!.error!.reason).toBe("DELIVERY_NOT_FOUND");
		expect(rig.router.counters.late).toBe(1);
	});

	test("ends at the call's deadline where that is sooner", async () => {
		const answer = refusal(rig.request(rig.call("alice", 1000), ask(10)));
		const [delivery] = await bob.deliveries();
		expect(delivery!.timeLeft!.seconds).toBe(1n);
		await rig.clock.advance(1000);
		expect((await answer).reason).toBe("DEADLINE_EXCEEDED");
		await bob.expect("cancelled");
	});

	test("that is cancelled reaches its handler, or leaves the mailbox", async () => {
		bob.up({ frame: { case: "credit", value: { maxInFlight: 1 } } });
		await settled();
		const first = rig.call("alice");
		const second = rig.call("alice");
		const answers = [refusal(rig.request(first, ask())), refusal(rig.request(second, ask()))];
		const [delivery] = await bob.deliveries();
		second.abort(new HubError("CANCELLED", "gone"));
		expect(await bob.idle()).toBe(true);
		first.abort(new HubError("CANCELLED", "gone"));
		expect(await bob.expect("cancelled")).toMatchObject({ deliveryId: delivery!.deliveryId, reason: "CANCELLED" });
		expect(await bob.idle()).toBe(true);
		for (const answer of answers) expect((await answer).reason).toBe("CANCELLED");
		expect(rig.router.counters.withdrawn).toBe(2);
	});

	test("that was assigned and is cancelled before it is handed out is never shown", async () => {
		await bob.pull();
		const caller = rig.call("alice");
		const answer = refusal(rig.request(caller, ask()));
		caller.abort(new HubError("CANCELLED", "gone"));
		expect((await answer).reason).toBe("CANCELLED");
		expect(await bob.idle()).toBe(true);
	});

	test("fails at once when the session that has it is lost", async () => {
		const answers = [refusal(rig.request("alice", ask()))];
		await bob.deliveries();
		bob.up({ frame: { case: "credit", value: { maxInFlight: 0 } } });
		await settled();
		answers.push(refusal(rig.request("alice", ask())));
		await settled();
		bob.vanish();
		for (const answer of answers) expect((await answer).reason).toBe("RECIPIENT_UNAVAILABLE");
	});

	test("waits for another instance where one is left", async () => {
		bob.up({ frame: { case: "credit", value: { maxInFlight: 0 } } });
		await settled();
		const answer = rig.request("alice", ask());
		await settled();
		const other = await rig.attach("bob");
		bob.vanish();
		const [delivery] = await other.deliveries();
		other.reply(delivery!.deliveryId, "1");
		expect((await answer).reply!.success).toBe(true);
		other.vanish();
	});

	test("cannot be acknowledged: its reply is owed", async () => {
		const answer = rig.request("alice", ask());
		const [delivery] = await bob.deliveries();
		bob.acknowledge(delivery!.deliveryId);
		expect((await bob.expect("failures")).failures[0]!.error!.reason).toBe("INVALID_FIELD");
		bob.reply(delivery!.deliveryId, "1");
		expect((await answer).reply!.success).toBe(true);
	});

	test("that is terminated, or refused in all attempts, gets an unsuccessful reply", async () => {
		const terminated = rig.request("alice", ask());
		const [delivery] = await bob.deliveries();
		bob.terminate(delivery!.deliveryId, "not mine");
		const error = { type: "terminated", message: "not mine", nonRetryable: true };
		expect((await terminated).reply).toMatchObject({ success: false, error });

		const exhausted = rig.request("alice", ask());
		for (let i = 0; i < 5; i++) bob.refuse((await bob.deliveries())[0]!.deliveryId);
		expect((await exhausted).reply!.error!.type).toBe("attempts_exhausted");
	});

	test("whose reply the hub refuses fails as `invalid_reply`, and the replier hears why", async () => {
		const answer = rig.request("alice", ask());
		const [delivery] = await bob.deliveries();
		bob.reply(delivery!.deliveryId, "[".repeat(65) + "]".repeat(65));
		expect((await bob.expect("failures")).failures[0]!.error!.reason).toBe("INVALID_CONTENT");
		expect((await answer).reply).toMatchObject({ success: false, error: { type: "invalid_reply" } });
	});

	test("that expires before it is delivered fails then", async () => {
		bob.up({ frame: { case: "credit", value: { maxInFlight: 0 } } });
		await settled();
		const request = { ...ask(30), message: { type: "ask", ttl: { seconds: 1n } } };
		const answer = refusal(rig.request("alice", request));
		await rig.clock.advance(1000);
		expect((await answer).reason).toBe("DEADLINE_EXCEEDED");
		expect(rig.router.counters.expired).toBe(1);
	});

	test.each([
		["nothing", { seconds: 0n }],
		["less than nothing", { seconds: -1n }],
		["more than an hour", { seconds: 3601n }],
	])("refuses a timeout of %s", async (_name, timeout) => {
		const error = await refusal(rig.request("alice", { ...ask(), timeout }));
		expect([error.reason, error.metadata.field]).toEqual(["INVALID_FIELD", "timeout"]);
	});

	test("is bounded per caller", async () => {
		using small = new MessagingRig({ maxPendingPerCaller: 1 });
		const peer = await small.attach("bob");
		const first = refusal(small.request("alice", ask()));
		expect((await refusal(small.request("alice", ask()))).reason).toBe("LIMIT_EXCEEDED");
		await peer.deliveries();
		peer.vanish();
		await first;
		expect(small.held.pendingReplies).toBe(0);
	});

	test("is answered through `Reply` on a `Receive` session", async () => {
		const carol = await rig.receive("carol");
		const { id: sessionId } = await carol.expect("ready");
		const answer = rig.request("alice", { ...ask(), to: to("carol") });
		const [delivery] = (await carol.expect("batch")).deliveries;
		const reply = { deliveryId: delivery!.deliveryId, reply: { success: true } };
		await rig.reply("carol", { sessionId, reply });
		expect((await answer).source).toBe("carol");
		expect((await refusal(rig.reply("carol", { sessionId, reply }))).reason).toBe("DELIVERY_NOT_FOUND");
		carol.vanish();
	});

	test("fails when the hub stops", async () => {
		const answer = refusal(rig.request("alice", ask()));
		await settled();
		rig.router[Symbol.dispose]();
		expect((await answer).reason).toBe("HUB_DRAINING");
		await bob.expect("draining");
	});
});

describe("SendStream", () => {
	const note = (entryId: bigint, recipient = "bob") => ({
		entryId,
		to: to(recipient),
		message: { type: "note" },
		durability: Durability.TRANSIENT,
	});
	const question = (entryId: bigint) => ({ entryId, ...ask(), timeout: undefined, requestTimeout: { seconds: 10n } });
	const batch = (...entries: object[]) => ({ frame: { case: "batch", value: { entries } } }) as const;

	test("answers each entry by its id, as its outcome is known", async () => {
		const alice = await rig.sendStream("alice");
		rig.denied.add("alice>carol");
		alice.up(batch(question(1n), note(2n), note(3n, "nobody"), note(2n ** 60n, "carol"), { entryId: 5n }));
		const { results } = await alice.expect("results");
		expect(results.map(({ entryId, outcome }) => [entryId, outcome.case])).toEqual([
			[2n, "accepted"],
			[3n, "error"],
			[2n ** 60n, "error"],
			[5n, "error"],
		]);
		expect(results[0]!.outcome.value).toMatchObject({ disposition: Disposition.QUEUED });
		expect(results.slice(1).map(({ outcome }) => (outcome.value as { reason: string }).reason)).toEqual([
			"NO_ROUTE",
			"NO_SEND_PERMISSION",
			"INVALID_FIELD",
		]);
		expect(results[3]!.outcome.value).toMatchObject({ metadata: { field: "batch.entries[4].to" }, code: 3 });
		const [delivery] = await bob.deliveries();
		bob.reply(delivery!.deliveryId, "7");
		const reply = (await alice.expect("results")).results[0]!;
		expect(reply).toMatchObject({ entryId: 1n, outcome: { case: "reply", value: { source: "bob" } } });
		alice.vanish();
	});

	test("gathers the results of what came together", async () => {
		const alice = await rig.sendStream("alice");
		await alice.pull();
		alice.up(batch(...Array.from({ length: 50 }, (_, i) => question(BigInt(i)))));
		const deliveries = await bob.deliveries();
		expect(deliveries).toHaveLength(50);
		for (const { deliveryId } of deliveries) bob.reply(deliveryId, "1");
		let results = 0;
		while (results < 50) results += (await alice.expect("results")).results.length;
		expect(results).toBe(50);
		alice.vanish();
	});

	test("cancels an entry, and tells its handler", async () => {
		const alice = await rig.sendStream("alice");
		alice.up(batch(question(1n)));
		const [delivery] = await bob.deliveries();
		alice.up({ frame: { case: "cancel", value: { entryId: 1n } } });
		alice.up({ frame: { case: "cancel", value: { entryId: 99n } } });
		expect((await bob.expect("cancelled")).deliveryId).toBe(delivery!.deliveryId);
		const [result] = (await alice.expect("results")).results;
		expect(result).toMatchObject({ entryId: 1n, outcome: { case: "error", value: { reason: "CANCELLED" } } });
		alice.vanish();
	});

	test("gives its requests up when it ends", async () => {
		const alice = await rig.sendStream("alice");
		alice.up(batch(question(1n)));
		await bob.deliveries();
		alice.vanish();
		await bob.expect("cancelled");
	});

	test("answers what is open before it ends", async () => {
		const alice = await rig.sendStream("alice");
		alice.up(batch(question(1n)));
		alice.end();
		bob.reply((await bob.deliveries())[0]!.deliveryId, "1");
		await alice.expect("results");
		expect(await alice.frame()).toBeUndefined();
	});

	test("passes every entry through the guard, and is not read on while its results are not taken", async () => {
		const alice = await rig.sendStream("alice");
		rig.denied.add("alice>bob");
		const entries = Array.from({ length: 1000 }, (_, i) => note(BigInt(i)));
		for (let i = 0; i < 10; i++) alice.up(batch(...entries));
		await settled();
		expect(rig.checked.filter(({ kind }) => kind === "send")).toHaveLength(5000);
		let results = 0;
		while (results < 10_000) results += (await alice.expect("results")).results.length;
		expect(results).toBe(10_000);
		alice.vanish();
	});

	test("hears cancellations while it is full, of what waits for a reply and of what it holds back", async () => {
		const alice = await rig.sendStream("alice");
		const ids = (from: number, count: number) => Array.from({ length: count }, (_, i) => BigInt(from + i));
		for (let i = 0; i < 5; i++) alice.up(batch(...ids(i * 1000, 1000).map(question)));
		alice.up(batch(question(9000n), note(9001n)));
		for (const entryId of [1n, 9000n, 9000n, 9001n]) alice.up({ frame: { case: "cancel", value: { entryId } } });
		await settled();
		const sends = () => rig.checked.filter(({ kind }) => kind === "send").length;
		expect(sends()).toBe(5000);
		const cancelled = (entryId: bigint) => ({ entryId, outcome: { case: "error", value: { reason: "CANCELLED" } } });
		const { results } = await alice.expect("results");
		expect(results).toMatchObject([cancelled(1n), cancelled(9000n)]);
		for (const entryId of ids(2, 1000)) alice.up({ frame: { case: "cancel", value: { entryId } } });
		await settled();
		for (let seen = 0; seen < 1000; ) seen += (await alice.expect("results")).results.length;
		expect((await alice.expect("results")).results).toMatchObject([{ entryId: 9001n, outcome: { case: "accepted" } }]);
		expect(sends()).toBe(5001);
		alice.vanish();
	});

	test.each([
		["an entry id that waits already", [batch(question(1n)), batch(question(1n))], "INVALID_FIELD"],
		["an empty batch", [batch()], "INVALID_FIELD"],
		["more than 1,000 entries", [batch(...Array.from({ length: 1001 }, (_, i) => note(BigInt(i))))], "INVALID_FIELD"],
		["a frame of nothing", [{}], "INVALID_FIELD"],
	])("ends at %s", async (_name, frames, reason) => {
		const alice = await rig.sendStream("alice");
		for (const frame of frames) alice.up(frame as Parameters<typeof alice.up>[0]);
		await settled();
		expect((await refusal(alice.frame())).reason).toBe(reason);
	});

	test("ends at bytes that are no message", async () => {
		const alice = await rig.sendStream("alice");
		alice.upBytes(Buffer.from([0x0a, 0x05, 0x0a]));
		expect((await refusal(alice.frame())).reason).toBe("MALFORMED_REQUEST");
	});

	test("ends when its caller may no longer be here", async () => {
		const alice = await rig.sendStream("alice");
		alice.up(batch(question(1n)));
		await bob.deliveries();
		for (const stream of rig.openStreams) stream.revoke(new HubError("CREDENTIAL_REVOKED", "revoked"));
		await alice.expect("revoked");
		expect((await refusal(alice.frame())).reason).toBe("CREDENTIAL_REVOKED");
	});
});
