import { toBinary } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Disposition, Durability, MessageSchema, Priority } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { MessagingRig } from "../harness/messaging-rig.ts";
import { refusal } from "../harness/refusal.ts";

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
		["unspecified", Durability.UNSPECIFIED, "INVALID_FIELD"],
		["unknown", 7, "INVALID_FIELD"],
	])("refuses %s durability", async (_name, value, reason) => {
		const bob = await rig.attach("bob");
		const error = await refusal(rig.send("alice", { to: to("bob"), message: create({}), durability: value }));
		expect(error.reason).toBe(reason);
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
		["attributes of the hub", { attributes: { "hub-x": "1" } }, "INVALID_FIELD", 'message.attributes["hub-x"]'],
		["a ttl of nothing", { ttl: { seconds: 0n } }, "INVALID_FIELD", "message.ttl"],
	])("refuses a message with %s", async (_name, message, reason, field) => {
		const error = await refusal(rig.send("alice", transient("bob", message)));
		expect([error.reason, error.metadata.field]).toEqual([reason, field]);
	});

	test.each([
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

function full(message: { id: string }) {
	return {
		id: message.id,
		type: "note",
		idempotent: false,
		orderingKey: "",
		attributes: {},
		source: "",
		recipient: "",
		topic: "",
		requiresResponse: false,
		attempt: 0,
	};
}
