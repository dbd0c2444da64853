import { toBinary } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Disposition, Durability, MessageSchema, Priority } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { HubError } from "../../src/hub-error.ts";
import { MessagingRig, refusal, settled } from "../harness/messaging-rig.ts";

let rig: MessagingRig;
beforeEach(() => {
	rig = new MessagingRig();
});
afterEach(() => {
	rig[Symbol.dispose]();
	expect(rig.held).toEqual({ recipients: 0, pendingReplies: 0, deadlines: 0, streams: 0 });
	expect(rig.clock.pendingTimers).toBe(0);
});

const to = (value: string) => ({ target: { case: "pluginId", value } }) as const;
const json = (value: string) => ({ body: { case: "json", value } }) as const;
const durability = Durability.TRANSIENT;

function transient(recipient: string, message: Partial<Parameters<typeof create>[0]> = {}) {
	return { to: to(recipient), durability, message: create(message) };
}
function create(message: {
	id?: string;
	type?: string;
	priority?: Priority;
	orderingKey?: string;
	ttl?: { seconds: bigint };
	source?: string;
	recipient?: string;
	attempt?: number;
	requiresResponse?: boolean;
	attributes?: Record<string, string>;
	payload?: { body: { case: "json"; value: string } | { case: "binary"; value: Uint8Array<ArrayBuffer> } };
}) {
	return { type: "note", ...message };
}

describe("Send", () => {
	test("delivers what was sent, byte for byte, with the hub's stamp", async () => {
		const bob = await rig.attach("bob");
		await bob.pull();
		const message = create({ id: "m-1", attributes: { traceparent: "00-1" }, payload: json('{ "a" : 1.0 }') });
		const answer = await rig.send("alice", { to: to("bob"), durability, message });
		expect(answer).toMatchObject({ id: "m-1", disposition: Disposition.DELIVERED, duplicate: false });
		const [delivery] = await bob.deliveries();
		expect(delivery!.timeLeft).toBeUndefined();
		expect(delivery!.message).toMatchObject({
			id: "m-1",
			type: "note",
			source: "alice",
			recipient: "bob",
			attempt: 1,
			requiresResponse: false,
			attributes: { traceparent: "00-1" },
		});
		expect(delivery!.message!.payload!.body.value).toBe('{ "a" : 1.0 }');
		expect(Number(delivery!.message!.hubTime!.seconds) * 1000).toBe(rig.clock.now());
		bob.vanish();
	});

	test("makes an id where the sender gives none", async () => {
		const bob = await rig.attach("bob");
		const { id } = await rig.send("alice", transient("bob"));
		expect(id).not.toBe("");
		expect((await bob.deliveries())[0]!.message!.id).toBe(id);
		bob.vanish();
	});

	test("queues while the recipient has no free place", async () => {
		const bob = await rig.attach("bob", { maxInFlight: 1 });
		await bob.pull();
		expect((await rig.send("alice", transient("bob"))).disposition).toBe(Disposition.DELIVERED);
		expect((await rig.send("alice", transient("bob"))).disposition).toBe(Disposition.QUEUED);
		const [first] = await bob.deliveries();
		expect(await bob.idle()).toBe(true);
		bob.acknowledge(first!.deliveryId);
		expect(await bob.deliveries()).toHaveLength(1);
		bob.vanish();
	});

	test("tells a plugin that does not exist from one for which nobody is attached", async () => {
		expect((await refusal(rig.send("alice", transient("nobody")))).reason).toBe("NO_ROUTE");
		expect((await refusal(rig.send("alice", transient("bob")))).reason).toBe("RECIPIENT_UNAVAILABLE");
		rig.plugins.set("carol", "disabled");
		expect((await refusal(rig.send("alice", transient("carol")))).reason).toBe("PLUGIN_DISABLED");
	});

	test("says nothing of a recipient to a sender that may not send to it", async () => {
		for (const recipient of ["bob", "carol", "nobody"]) {
			rig.denied.add(`alice>${recipient}`);
			expect((await refusal(rig.send("alice", transient(recipient)))).reason).toBe("NO_SEND_PERMISSION");
		}
		expect(rig.checked.map((action) => "recipientExists" in action && action.recipientExists)).toEqual([
			true,
			true,
			false,
		]);
	});

	test("leads nowhere by capability and alias", async () => {
		for (const kind of ["capability", "alias"] as const) {
			const request = { ...transient("bob"), to: { target: { case: kind, value: "translate" } } };
			expect((await refusal(rig.send("alice", request))).reason).toBe("NO_ROUTE");
		}
	});

	test.each([
		["absent", undefined, "FEATURE_NOT_AVAILABLE"],
		["durable", Durability.DURABLE, "FEATURE_NOT_AVAILABLE"],
		["unspecified", Durability.UNSPECIFIED, "INVALID_FIELD"],
		["unknown", 7, "INVALID_FIELD"],
	])("refuses %s durability", async (_name, value, reason) => {
		const bob = await rig.attach("bob");
		const error = await refusal(rig.send("alice", { to: to("bob"), message: create({}), durability: value }));
		expect(error.reason).toBe(reason);
		if (reason === "FEATURE_NOT_AVAILABLE") expect(error.message).toContain("DURABILITY_TRANSIENT");
		bob.vanish();
	});

	test.each([
		["another source", { source: "carol" }, "SPOOFED_SOURCE", "message.source"],
		["a recipient", { recipient: "bob" }, "INVALID_FIELD", "message.recipient"],
		["an attempt", { attempt: 3 }, "INVALID_FIELD", "message.attempt"],
		["requires_response", { requiresResponse: true }, "INVALID_FIELD", "message.requires_response"],
		["no type", { type: "" }, "INVALID_EVENT_TYPE", "message.type"],
		["a priority of no meaning", { priority: Priority.UNSPECIFIED }, "INVALID_FIELD", "message.priority"],
		["a long id", { id: "x".repeat(129) }, "INVALID_FIELD", "message.id"],
		["a long ordering key", { orderingKey: "x".repeat(257) }, "INVALID_FIELD", "message.ordering_key"],
		["a ttl of nothing", { ttl: { seconds: 0n } }, "INVALID_FIELD", "message.ttl"],
	])("refuses a message with %s", async (_name, message, reason, field) => {
		const error = await refusal(rig.send("alice", transient("bob", message)));
		expect([error.reason, error.metadata.field]).toEqual([reason, field]);
	});

	test.each([
		["attributes of the hub", { attributes: { "hub-x": "1" } }],
		["JSON that nests too deep", { payload: json("[".repeat(65) + "]".repeat(65)) }],
		["more than 1 MiB", { payload: json(`"${"x".repeat(1024 * 1024)}"`) }],
	])("refuses %s as content", async (_name, message) => {
		expect((await refusal(rig.send("alice", transient("bob", message)))).reason).toBe("INVALID_CONTENT");
	});

	test("accepts the sender's own id as source", async () => {
		const bob = await rig.attach("bob");
		await rig.send("alice", transient("bob", { source: "alice" }));
		expect((await bob.deliveries())[0]!.message!.source).toBe("alice");
		bob.vanish();
	});

	test("refuses a text that is not UTF-8 before a recipient must choke on it", async () => {
		const bytes = Buffer.from(toBinary(MessageSchema, { $typeName: "qirvo.hub.v1.Message", ...full({ id: "XXXX" }) }));
		bytes[bytes.indexOf("XXXX")] = 0xff;
		const request = Buffer.concat([
			Buffer.from([0x0a, 5, 0x0a, 3]),
			Buffer.from("bob"),
			Buffer.from([0x12, bytes.length]),
			bytes,
		]);
		expect((await refusal(rig.raw("send", request, rig.call("alice").call))).reason).toBe("MALFORMED_REQUEST");
	});

	test("gives a repeated id its first answer, and refuses it with other content", async () => {
		const bob = await rig.attach("bob");
		const once = transient("bob", { id: "m-1", payload: json("1") });
		await rig.send("alice", once);
		expect(await rig.send("alice", once)).toMatchObject({ id: "m-1", duplicate: true });
		const error = await refusal(rig.send("alice", transient("bob", { id: "m-1", payload: json("2") })));
		expect(error.reason).toBe("ID_REUSED");
		expect((await rig.send("carol", once)).duplicate).toBe(false);
		expect(await bob.deliveries()).toHaveLength(2);
		await rig.clock.advance(5 * 60_000);
		expect((await rig.send("alice", once)).duplicate).toBe(false);
		bob.vanish();
	});

	test("tells the sender that the mailbox is full, by count and by bytes", async () => {
		using small = new MessagingRig({ mailbox: { maxMessages: 2 } });
		const bob = await small.attach("bob", { maxInFlight: 1 });
		await bob.pull();
		for (let i = 0; i < 3; i++) await small.send("alice", transient("bob"));
		expect((await refusal(small.send("alice", transient("bob")))).reason).toBe("MAILBOX_FULL");
		bob.vanish();

		using narrow = new MessagingRig({ mailbox: { maxBytes: 2000 } });
		const carol = await narrow.attach("carol", { maxInFlight: 1 });
		await carol.pull();
		for (let i = 0; i < 2; i++)
			await narrow.send("alice", transient("carol", { payload: json(`"${"x".repeat(1500)}"`) }));
		expect((await refusal(narrow.send("alice", transient("carol")))).reason).toBe("MAILBOX_FULL");
		carol.vanish();
	});

	test("drops what is not delivered in its time to live", async () => {
		const bob = await rig.attach("bob", { maxInFlight: 1 });
		await rig.send("alice", transient("bob", { id: "first" }));
		const [first] = await bob.deliveries();
		await rig.send("alice", transient("bob", { id: "short", ttl: { seconds: 5n } }));
		await rig.send("alice", transient("bob", { id: "long", ttl: { seconds: 60n } }));
		await rig.clock.advance(5000);
		bob.acknowledge(first!.deliveryId);
		expect((await bob.deliveries()).map(({ message }) => message!.id)).toEqual(["long"]);
		expect(rig.router.counters.expired).toBe(1);
		bob.vanish();
	});
});

describe("Attach", () => {
	test("begins with `open`", async () => {
		const peer = rig.attachUnopened("bob");
		peer.acknowledge("1");
		expect((await refusal(peer.frame())).reason).toBe("INVALID_FIELD");
	});

	test("is refused to an instance without a lease, and ends with the lease", async () => {
		const stranger = rig.attachUnopened("bob");
		stranger.up({ frame: { case: "open", value: { instanceId: "i-1" } } });
		expect((await refusal(stranger.frame())).reason).toBe("INSTANCE_NOT_FOUND");
		rig.leases.add("bob/i-1");
		const bob = await rig.attach("bob", { instanceId: "i-1" });
		rig.endLease("bob", "i-2");
		expect(await bob.idle()).toBe(true);
		rig.endLease("bob", "i-1");
		expect((await refusal(bob.frame())).reason).toBe("INSTANCE_NOT_FOUND");
	});

	test("hands out no more than its credit, which can be changed", async () => {
		const bob = await rig.attach("bob", { maxInFlight: 2 });
		for (let i = 0; i < 5; i++) await rig.send("alice", transient("bob"));
		expect(await bob.deliveries()).toHaveLength(2);
		expect(await bob.idle()).toBe(true);
		bob.up({ frame: { case: "credit", value: { maxInFlight: 4 } } });
		expect(await bob.deliveries()).toHaveLength(2);
		bob.up({ frame: { case: "credit", value: { maxInFlight: 0 } } });
		bob.acknowledge("1", "2", "3", "4");
		expect(await bob.idle()).toBe(true);
		bob.vanish();
	});

	test("spreads messages over competing instances by their load", async () => {
		const peers = [await rig.attach("bob", { maxInFlight: 3 }), await rig.attach("bob", { maxInFlight: 3 })];
		await Promise.all(peers.map((peer) => peer.pull()));
		for (let i = 0; i < 6; i++) await rig.send("alice", transient("bob"));
		for (const peer of peers) {
			let got = 0;
			while (got < 3) got += (await peer.deliveries()).length;
			expect(got).toBe(3);
		}
		for (const peer of peers) peer.vanish();
	});

	test("gives what a vanished instance never got to the others, and loses what it had", async () => {
		const first = await rig.attach("bob", { maxInFlight: 1 });
		await rig.send("alice", transient("bob", { id: "had" }));
		await first.deliveries();
		await rig.send("alice", transient("bob", { id: "waited" }));
		const second = await rig.attach("bob");
		first.vanish();
		expect((await second.deliveries()).map(({ message }) => message!.id)).toEqual(["waited"]);
		expect(rig.router.counters.lost).toBe(1);
		second.vanish();
	});

	test("passes on what was assigned to an instance and not yet handed out", async () => {
		const first = await rig.attach("bob");
		const second = await rig.attach("bob", { maxInFlight: 1 });
		await first.pull();
		const sent = rig.send("alice", transient("bob", { id: "m-1" }));
		// The message is assigned by now, and the stream it is assigned to has had no turn to take it.
		first.vanish();
		expect((await sent).disposition).toBe(Disposition.DELIVERED);
		expect((await second.deliveries())[0]!.message).toMatchObject({ id: "m-1", attempt: 1 });
		expect(rig.router.counters).toMatchObject({ delivered: 1, lost: 0 });
		second.vanish();
	});

	test("loses what waits with the last instance", async () => {
		const bob = await rig.attach("bob", { maxInFlight: 1 });
		await bob.pull();
		for (let i = 0; i < 3; i++) await rig.send("alice", transient("bob"));
		await bob.deliveries();
		bob.vanish();
		expect(rig.router.counters.lost).toBe(3);
		expect(rig.held.recipients).toBe(0);
	});

	test("keeps one message of an ordering key under way among competing instances", async () => {
		const peers = [await rig.attach("bob"), await rig.attach("bob")];
		for (let i = 0; i < 3; i++) await rig.send("alice", transient("bob", { id: `k-${i}`, orderingKey: "k" }));
		await rig.send("carol", transient("bob", { id: "other", orderingKey: "k" }));
		const seen: string[] = [];
		for (let round = 0; round < 4; round++) {
			for (const peer of peers) {
				if (await peer.idle()) continue;
				const batch = await peer.deliveries();
				expect(batch.filter(({ message }) => message!.source === "alice").length).toBeLessThanOrEqual(1);
				seen.push(...batch.map(({ message }) => message!.id));
				peer.acknowledge(...batch.map(({ deliveryId }) => deliveryId));
				await settled();
			}
		}
		expect(seen.filter((id) => id !== "other")).toEqual(["k-0", "k-1", "k-2"]);
		expect(seen).toContain("other");
		for (const peer of peers) peer.vanish();
	});

	test("delivers again after a negative acknowledgement, in order, five times at most", async () => {
		const bob = await rig.attach("bob");
		await rig.send("alice", transient("bob", { id: "k-1", orderingKey: "k" }));
		await rig.send("alice", transient("bob", { id: "k-2", orderingKey: "k" }));
		for (let attempt = 1; attempt <= 5; attempt++) {
			const [delivery] = await bob.deliveries();
			expect(delivery!.message).toMatchObject({ id: "k-1", attempt });
			bob.refuse(delivery!.deliveryId, 1000);
			if (attempt === 5) break;
			expect(await bob.idle()).toBe(true);
			await rig.clock.advance(1000);
		}
		expect((await bob.deliveries())[0]!.message).toMatchObject({ id: "k-2", attempt: 1 });
		expect(rig.router.counters.rejected).toBe(1);
		bob.vanish();
	});

	test("reports settlements that come to nothing, and lets their neighbours stand", async () => {
		const bob = await rig.attach("bob", { maxInFlight: 1 });
		await rig.send("alice", transient("bob"));
		await rig.send("alice", transient("bob", { id: "next" }));
		const [delivery] = await bob.deliveries();
		bob.acknowledge("99", delivery!.deliveryId, delivery!.deliveryId);
		const { failures } = await bob.expect("failures");
		expect(failures.map(({ deliveryId, error }) => [deliveryId, error!.reason, error!.code])).toEqual([
			["99", "DELIVERY_NOT_FOUND", 5],
			[delivery!.deliveryId, "DELIVERY_NOT_FOUND", 5],
		]);
		expect((await bob.deliveries())[0]!.message!.id).toBe("next");
		bob.vanish();
	});

	test("does not read on while nobody takes its failures", async () => {
		const bob = await rig.attach("bob");
		for (let i = 0; i < 5; i++) bob.acknowledge(...Array.from({ length: 1000 }, (_, at) => `${i}-${at}`));
		await settled();
		const { failures } = await bob.expect("failures");
		expect(failures.length).toBeLessThanOrEqual(2000);
		bob.vanish();
	});

	test("serves a low priority while higher ones wait, and senders in turns", async () => {
		const bob = await rig.attach("bob", { maxInFlight: 12 });
		for (let i = 0; i < 20; i++) {
			await rig.send("alice", transient("bob", { priority: Priority.HIGH }));
			await rig.send("alice", transient("bob", { priority: Priority.LOW }));
			await rig.send("alice", transient("bob"));
		}
		await rig.send("carol", transient("bob", { priority: Priority.HIGH }));
		const batch = await bob.deliveries();
		const count = (priority: Priority | undefined) =>
			batch.filter(({ message }) => message!.priority === priority).length;
		expect([count(Priority.HIGH), count(undefined), count(Priority.LOW)]).toEqual([8, 3, 1]);
		expect(batch.slice(0, 2).map(({ message }) => message!.source)).toEqual(["alice", "carol"]);
		bob.vanish();
	});

	test("says that it is alive while nothing happens", async () => {
		const bob = await rig.attach("bob");
		await bob.pull();
		await rig.clock.advance(15_000);
		await bob.expect("heartbeat");
		await bob.pull();
		await rig.clock.advance(14_000);
		expect(await bob.idle()).toBe(true);
		bob.vanish();
	});

	test("ends with `revoked`, or with `draining`, and the reason", async () => {
		const bob = await rig.attach("bob");
		await bob.pull();
		for (const stream of rig.openStreams) stream.revoke(new HubError("PERMISSION_REVOKED", "no more"));
		expect(await bob.expect("revoked")).toMatchObject({ reason: "PERMISSION_REVOKED", message: "no more" });
		expect((await refusal(bob.frame())).reason).toBe("PERMISSION_REVOKED");
		expect(rig.held.recipients).toBe(0);

		const carol = await rig.attach("carol");
		carol.held.abort(new HubError("HUB_DRAINING", "the hub is shutting down"));
		await carol.expect("draining");
		expect((await refusal(carol.frame())).reason).toBe("HUB_DRAINING");
	});

	test("ends when its recipient ends it", async () => {
		const bob = await rig.attach("bob");
		bob.end();
		expect(await bob.frame()).toBeUndefined();
	});

	test("is bounded per plugin", async () => {
		const peers = [];
		for (let i = 0; i < 64; i++) peers.push(await rig.attach("bob"));
		const extra = rig.attachUnopened("bob");
		extra.up({ frame: { case: "open", value: {} } });
		expect((await refusal(extra.frame())).reason).toBe("LIMIT_EXCEEDED");
		for (const peer of peers) peer.vanish();
	});
});

describe("Receive", () => {
	test("delivers what is settled by unary calls of the same plugin alone", async () => {
		const bob = await rig.receive("bob", { maxInFlight: 1 });
		const { id: sessionId } = await bob.expect("ready");
		await rig.send("alice", transient("bob", { id: "m-1" }));
		await rig.send("alice", transient("bob", { id: "m-2" }));
		const [delivery] = (await bob.expect("batch")).deliveries;
		const settlement = { deliveryId: delivery!.deliveryId, outcome: { case: "acknowledge", value: true } } as const;
		const stranger = refusal(rig.acknowledge("carol", { sessionId, deliveries: [settlement] }));
		expect((await stranger).reason).toBe("SESSION_NOT_FOUND");
		expect((await rig.acknowledge("bob", { sessionId, deliveries: [settlement] })).failures).toEqual([]);
		expect((await bob.expect("batch")).deliveries[0]!.message!.id).toBe("m-2");
		const again = await rig.acknowledge("bob", { sessionId, deliveries: [settlement], credit: { maxInFlight: 0 } });
		expect(again.failures[0]!.error!.reason).toBe("DELIVERY_NOT_FOUND");
		bob.vanish();
		expect((await refusal(rig.acknowledge("bob", { sessionId }))).reason).toBe("SESSION_NOT_FOUND");
	});
});

function full(message: { id: string }) {
	return {
		id: message.id,
		type: "note",
		idempotent: false,
		orderingKey: "",
		attributes: {},
		source: "",
		recipient: "",
		requiresResponse: false,
		attempt: 0,
	};
}
