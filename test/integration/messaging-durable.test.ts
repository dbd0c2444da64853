import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
	type AddressSchema,
	type Delivery,
	Disposition,
	Durability,
	MessageSchema,
	Priority,
	SendRequestSchema,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { StorageError } from "../../src/state/kv-store.ts";
import { VolatileKvStore } from "../../src/state/volatile-kv-store.ts";
import { FakeClock } from "../harness/fake-clock.ts";
import { type AttachPeer, MessagingRig, refusal, settled } from "../harness/messaging-rig.ts";

type Message = Partial<MessageInitShape<typeof MessageSchema>>;
type Send = { to: MessageInitShape<typeof AddressSchema>; message: MessageInitShape<typeof MessageSchema> };

const clock = () => rig.clock;
let rig: MessagingRig;
let kv: VolatileKvStore;

beforeEach(() => {
	const clock = new FakeClock();
	kv = new VolatileKvStore(clock);
	rig = new MessagingRig({ clock, kv });
});

afterEach(() => rig[Symbol.dispose]());

/** The hub ends and another one begins on the same store. */
function restart(): void {
	rig[Symbol.dispose]();
	rig = new MessagingRig({ clock: rig.clock, kv });
}

function durable(recipient: string, message: Omit<Message, "$typeName" | "$unknown"> = {}): Send {
	return {
		to: { target: { case: "pluginId", value: recipient } },
		message: { type: "job", payload: { body: { case: "json", value: "1" } }, ...message } as Send["message"],
	};
}

const seconds = (value: number) => ({ seconds: BigInt(Math.floor(value)), nanos: Math.round((value % 1) * 1e9) });
const idsOf = (deliveries: readonly Delivery[]) => deliveries.map(({ message }) => message!.id);

async function take(peer: AttachPeer): Promise<Delivery> {
	const deliveries = await peer.deliveries();
	expect(deliveries).toHaveLength(1);
	return deliveries[0]!;
}

/** Nothing but marks of ids is left. */
function storedKeys(): string[] {
	return kv.range({ start: "mailbox/", end: "mailbox0", limit: 1000 }).entries.map(({ key }) => key);
}

describe("a durable message", () => {
	test("waits for a recipient that nobody is attached for, and is delivered until it is acknowledged", async () => {
		const answer = await rig.send("alice", durable("bob", { id: "m" }));
		expect(answer).toMatchObject({ id: "m", disposition: Disposition.QUEUED, duplicate: false });
		const bob = await rig.attach("bob");
		const first = await take(bob);
		expect(first.message).toMatchObject({ id: "m", source: "alice", recipient: "bob", attempt: 1 });
		bob.vanish();
		await settled();
		const again = await rig.attach("bob");
		const second = await take(again);
		expect(second.message).toMatchObject({ id: "m", attempt: 2, payload: first.message!.payload });
		again.acknowledge(second.deliveryId);
		expect(await again.idle()).toBe(true);
		again.vanish();
		await settled();
		expect(rig.held).toMatchObject({ recipients: 0, deadlines: 0, streams: 0 });
		await clock().advance(240_000);
		expect(storedKeys()).toEqual([]);
	});

	test("is said to be delivered where somebody can take it", async () => {
		const bob = await rig.attach("bob");
		await bob.pull();
		const answer = await rig.send("alice", durable("bob"));
		expect(answer.disposition).toBe(Disposition.DELIVERED);
		bob.acknowledge((await take(bob)).deliveryId);
		expect(await bob.idle()).toBe(true);
		expect(storedKeys()).toEqual([]);
		bob.vanish();
	});

	test("outlives the hub, with its order, its attempts and its delay", async () => {
		for (const id of ["a", "b", "c"]) await rig.send("alice", durable("bob", { id }));
		const bob = await rig.attach("bob", { maxInFlight: 2 });
		const [a, b] = await bob.deliveries();
		bob.refuse(a!.deliveryId, 10_000);
		bob.acknowledge(b!.deliveryId);
		await settled();
		restart();
		const back = await rig.attach("bob");
		const c = await take(back);
		expect(c.message).toMatchObject({ id: "c", attempt: 1 });
		await clock().advance(10_000);
		expect((await take(back)).message).toMatchObject({ id: "a", attempt: 2 });
		expect(await back.idle()).toBe(true);
		back.vanish();
	});

	test("does not count the deliveries that a stopping hub cut short", async () => {
		await rig.send("alice", durable("bob"));
		for (let round = 0; round < 8; round++) {
			const bob = await rig.attach("bob");
			expect((await take(bob)).message!.attempt).toBe(1);
			restart();
		}
	});

	test("is delivered again after the ack wait, unless its recipient says that it is busy with it", async () => {
		const bob = await rig.attach("bob", { policy: { ackWait: seconds(4), backoff: [seconds(1), seconds(2)] } });
		await rig.send("alice", durable("bob"));
		const first = await take(bob);
		await clock().advance(3_000);
		bob.up({
			frame: {
				case: "settlement",
				value: { deliveries: [{ deliveryId: first.deliveryId, outcome: { case: "inProgress", value: true } }] },
			},
		});
		await clock().advance(3_999);
		expect(await bob.idle()).toBe(true);
		await clock().advance(1);
		expect(await bob.idle()).toBe(true);
		await clock().advance(1_000);
		const second = await take(bob);
		expect(second.message!.attempt).toBe(2);
		bob.acknowledge(first.deliveryId);
		const { failures } = await bob.expect("failures");
		expect(failures[0]!.error!.reason).toBe("DELIVERY_NOT_FOUND");
		bob.refuse(second.deliveryId);
		expect(await bob.idle()).toBe(false);
		bob.vanish();
	});

	test("waits as the backoff says where the recipient does not say, and becomes a dead letter in the end", async () => {
		const policy = { backoff: [seconds(1), seconds(5)], maxDeliveries: 4 };
		const bob = await rig.attach("bob", { policy });
		await rig.send("alice", durable("bob", { id: "bad", orderingKey: "k" }));
		await rig.send("alice", durable("bob", { id: "good", orderingKey: "k" }));
		for (const [attempt, pause] of [1000, 5000, 5000].entries()) {
			const { deliveryId, message } = await take(bob);
			expect(message).toMatchObject({ id: "bad", attempt: attempt + 1 });
			bob.up({ frame: { case: "settlement", value: { deliveries: [{ deliveryId, outcome: NEGATIVE }] } } });
			await settled();
			await clock().advance(pause - 1);
			expect(await bob.idle()).toBe(true);
			await clock().advance(1);
		}
		const last = await take(bob);
		bob.up({
			frame: { case: "settlement", value: { deliveries: [{ deliveryId: last.deliveryId, outcome: NEGATIVE }] } },
		});
		expect((await take(bob)).message).toMatchObject({ id: "good", attempt: 1 });
		const { deadLetters } = await rig.deadLetters("listDeadLetters", "bob", {});
		expect(deadLetters).toHaveLength(1);
		expect(deadLetters[0]).toMatchObject({ pluginId: "bob", reason: "refused by its recipient, in delivery 4" });
		expect(deadLetters[0]!.message).toMatchObject({ id: "bad", attempt: 4, source: "alice", payload: undefined });
		bob.vanish();
	});

	test("keeps its order per key across competing instances, through redelivery", async () => {
		const peers = [await rig.attach("bob"), await rig.attach("bob")];
		for (let i = 0; i < 6; i++) await rig.send("alice", durable("bob", { id: `k-${i}`, orderingKey: "k" }));
		const handled: string[] = [];
		for (let round = 0; round < 40 && handled.length < 6; round++) {
			for (const [index, peer] of peers.entries()) {
				if (await peer.idle()) continue;
				const { deliveryId, message } = await take(peer);
				if ((round + index) % 3 === 0) {
					peer.refuse(deliveryId);
				} else {
					handled.push(message!.id);
					peer.acknowledge(deliveryId);
				}
				await settled();
			}
		}
		expect(handled).toEqual(["k-0", "k-1", "k-2", "k-3", "k-4", "k-5"]);
		for (const peer of peers) peer.vanish();
	});

	test("expires while it waits, also while the hub is down", async () => {
		await rig.send("alice", durable("bob", { ttl: seconds(10) }));
		await rig.send("alice", durable("bob", { ttl: seconds(20) }));
		await rig.send("alice", durable("bob", { id: "stays" }));
		await clock().advance(10_000);
		expect(rig.router.counters.expired).toBe(1);
		rig[Symbol.dispose]();
		await clock().advance(10_000);
		restart();
		const bob = await rig.attach("bob");
		expect(idsOf(await bob.deliveries())).toEqual(["stays"]);
		await settled();
		expect(storedKeys()).toHaveLength(1);
		bob.vanish();
	});

	test("is not delivered before its time, and is behind what arrived by then", async () => {
		const bob = await rig.attach("bob");
		const deliverAt = timestampFromMs(clock().now() + 20_000);
		await rig.send("alice", durable("bob", { id: "later", deliverAt, orderingKey: "k", ttl: seconds(5) }));
		await rig.send("alice", durable("bob", { id: "now", orderingKey: "k" }));
		const now = await take(bob);
		expect(now.message!.id).toBe("now");
		await clock().advance(10_000);
		restart();
		const back = await rig.attach("bob");
		expect(idsOf(await back.deliveries())).toEqual(["now"]);
		await clock().advance(9_999);
		expect(await back.idle()).toBe(true);
		await clock().advance(1);
		expect(rig.router.backlog.messages).toBe(1);
		back.vanish();
		await settled();
		await clock().advance(5_000);
		expect(rig.router.counters.expired).toBe(1);
	});

	test("refuses a time that is too far ahead", async () => {
		const deliverAt = timestampFromMs(clock().now() + 367 * 86_400_000);
		const error = await refusal(rig.send("alice", durable("bob", { deliverAt })));
		expect(error.metadata.field).toBe("message.deliver_at");
	});

	test("gives the first answer to a repeat within the window, also after a restart; other content is refused", async () => {
		const first = await rig.send("alice", durable("bob", { id: "m" }));
		expect(await rig.send("alice", durable("bob", { id: "m" }))).toEqual({ ...first, duplicate: true });
		const other = () => refusal(rig.send("alice", durable("bob", { id: "m", type: "other" })));
		expect((await other()).reason).toBe("ID_REUSED");
		expect((await rig.send("carol", durable("bob", { id: "m" }))).duplicate).toBe(false);
		const bob = await rig.attach("bob");
		for (const { deliveryId } of await bob.deliveries()) bob.acknowledge(deliveryId);
		await settled();
		restart();
		expect(await rig.send("alice", durable("bob", { id: "m" }))).toMatchObject({ id: "m", duplicate: true });
		expect((await other()).reason).toBe("ID_REUSED");
		await clock().advance(120_000);
		expect((await rig.send("alice", durable("bob", { id: "m" }))).duplicate).toBe(false);
		expect(rig.router.store.size).toBe(1);
	});

	test("gives both of two sends at once the same answer", async () => {
		const [first, second] = await Promise.all([
			rig.send("alice", durable("bob", { id: "m" })),
			rig.send("alice", durable("bob", { id: "m" })),
		]);
		expect([first!.duplicate, second!.duplicate]).toEqual([false, true]);
		expect(rig.router.store.size).toBe(1);
	});

	test("forgets the oldest ids first where there are too many", async () => {
		rig[Symbol.dispose]();
		rig = new MessagingRig({ clock: rig.clock, kv, storage: { maxMarks: 100 } });
		const bob = await rig.attach("bob");
		for (let i = 0; i < 700; i++) {
			await rig.send("alice", durable("bob", { id: `m-${i}` }));
			bob.acknowledge((await take(bob)).deliveryId);
			await settled();
		}
		expect(rig.router.store.held.marks).toBeLessThanOrEqual(600);
		expect((await rig.send("alice", durable("bob", { id: "m-699" }))).duplicate).toBe(true);
		expect((await rig.send("alice", durable("bob", { id: "m-0" }))).duplicate).toBe(false);
		bob.vanish();
	});

	test("is refused where the mailbox is full, with what is being stored counted", async () => {
		rig[Symbol.dispose]();
		rig = new MessagingRig({ clock: rig.clock, kv, mailbox: { maxMessages: 3 } });
		const outcomes = await Promise.allSettled([1, 2, 3, 4, 5].map(() => rig.send("alice", durable("bob"))));
		expect(outcomes.map(({ status }) => status)).toEqual([
			"fulfilled",
			"fulfilled",
			"fulfilled",
			"rejected",
			"rejected",
		]);
		expect((await refusal(rig.send("alice", durable("bob")))).reason).toBe("MAILBOX_FULL");
	});

	test("is kept while its recipient is disabled, and goes with it when it is unregistered", async () => {
		await rig.send("alice", durable("bob", { id: "m" }));
		const bob = await rig.attach("bob");
		bob.terminate((await take(bob)).deliveryId, "no");
		await rig.send("alice", durable("bob", { id: "n" }));
		bob.vanish();
		rig.plugins.set("bob", "disabled");
		expect((await refusal(rig.send("alice", durable("bob")))).reason).toBe("PLUGIN_DISABLED");
		restart();
		expect(rig.router.store.size).toBe(1);
		expect(rig.letters.size).toBe(1);
		rig.unregister("bob");
		await settled();
		expect(rig.held).toMatchObject({ recipients: 0, deadlines: 0 });
		expect(storedKeys()).toEqual([]);
		expect(kv.range({ start: "dead-letter/", end: "dead-letter0", limit: 10 }).entries).toEqual([]);
		rig.plugins.set("bob", "present");
		const next = await rig.attach("bob");
		expect(await next.idle()).toBe(true);
		expect((await rig.send("alice", durable("bob", { id: "m" }))).duplicate).toBe(false);
		expect((await take(next)).message!.attempt).toBe(1);
		// Marks of the plugin that is gone are deleted in their time, and nothing else is.
		await clock().advance(240_000);
		restart();
		const last = await rig.attach("bob");
		expect(idsOf(await last.deliveries())).toEqual(["m"]);
		last.vanish();
	});

	test("of a plugin that was unregistered while the hub was down is deleted", async () => {
		await rig.send("alice", durable("bob"));
		rig[Symbol.dispose]();
		const plugins = { lookup: () => "unknown" as const, onRemoved: () => ({ [Symbol.dispose]() {} }) };
		rig = new MessagingRig({ clock: rig.clock, kv, directory: plugins });
		await settled();
		expect(storedKeys()).toEqual([]);
	});

	test("is not accepted, and not settled, where the store fails; and goes on when it works again", async () => {
		const fault = new StorageError("full", "not-written", "the disk is full");
		const commit = kv.commit.bind(kv);
		kv.commit = () => Promise.reject(fault);
		await expect(rig.send("alice", durable("bob", { id: "m" }))).rejects.toBe(fault);
		expect(rig.held.recipients).toBe(0);
		kv.commit = commit;
		expect((await rig.send("alice", durable("bob", { id: "m" }))).duplicate).toBe(false);
		const session = await rig.receive("bob");
		const { id: sessionId } = await session.expect("ready");
		const [delivery] = (await session.expect("batch")).deliveries;
		kv.commit = () => Promise.reject(fault);
		const deliveries = [{ deliveryId: delivery!.deliveryId, outcome: { case: "acknowledge", value: true } as const }];
		const { failures } = await rig.acknowledge("bob", { sessionId, deliveries });
		expect(failures[0]!.error).toMatchObject({ reason: "STORAGE_FULL" });
		kv.commit = commit;
		await clock().advance(1_000);
		expect((await session.expect("batch")).deliveries[0]!.message).toMatchObject({ id: "m", attempt: 2 });
		session.vanish();
	});

	test("settles a commit of unknown outcome by repeating it", async () => {
		const commit = kv.commit.bind(kv);
		kv.commit = async (asked) => {
			await commit(asked);
			kv.commit = commit;
			throw new StorageError("unavailable", "unknown", "the connection broke");
		};
		const answer = rig.send("alice", durable("bob", { id: "m" }));
		await clock().advance(100);
		expect((await answer).duplicate).toBe(false);
		expect(storedKeys()).toHaveLength(1);
	});

	test("low priority arrives before a high backlog of another sender ends", async () => {
		const stream = await rig.sendStream("alice");
		for (let batch = 0; batch < 10; batch++) {
			const entries = Array.from({ length: 1000 }, (_, index) => ({
				entryId: BigInt(batch * 1000 + index),
				...durable("bob", { priority: Priority.HIGH, payload: { body: { case: "json", value: "0" } } }),
			}));
			if (batch === 9) entries.length = 990;
			stream.up({ frame: { case: "batch", value: { entries } } });
		}
		let answered = 0;
		while (answered < 9_990) answered += (await stream.expect("results")).results.length;
		for (let i = 0; i < 10; i++) await rig.send("carol", durable("bob", { id: `low-${i}`, priority: Priority.LOW }));
		const bob = await rig.attach("bob", { maxInFlight: 100 });
		const places: number[] = [];
		let served = 0;
		while (served < 10_000) {
			const deliveries = await bob.deliveries();
			for (const { message } of deliveries) {
				served++;
				if (message!.priority === Priority.LOW) places.push(served);
			}
			bob.acknowledge(...deliveries.map(({ deliveryId }) => deliveryId));
		}
		expect(places).toHaveLength(10);
		expect(places.at(-1)).toBeLessThanOrEqual(10 * 9);
		bob.vanish();
		stream.vanish();
	});

	test("keeps a bounded number of bytes in memory and reads the rest back", async () => {
		rig[Symbol.dispose]();
		rig = new MessagingRig({ clock: rig.clock, kv, storage: { cacheBytes: 1_000 } });
		const json = JSON.stringify("x".repeat(300));
		const payload = { body: { case: "json", value: json } } as const;
		for (let i = 0; i < 10; i++) await rig.send("alice", durable("bob", { payload }));
		expect(rig.router.store.held.cachedBytes).toBeLessThanOrEqual(1_000);
		expect(rig.router.store.held.cachedBytes).toBeGreaterThan(0);
		const bob = await rig.attach("bob");
		const deliveries = await bob.deliveries();
		expect(deliveries.map(({ message }) => message!.payload!.body.value)).toEqual(Array(10).fill(json));
		expect(rig.router.store.held.cachedBytes).toBe(0);
		bob.vanish();
	});

	test.each([
		["a short ack wait", { ackWait: seconds(0.05) }, "open.policy.ack_wait"],
		["a long ack wait", { ackWait: seconds(3601) }, "open.policy.ack_wait"],
		["a long backoff list", { backoff: Array(33).fill(seconds(1)) }, "open.policy.backoff"],
		["a negative backoff", { backoff: [seconds(1), seconds(-1)] }, "open.policy.backoff[1]"],
		["no delivery", { maxDeliveries: 0 }, "open.policy.max_deliveries"],
		["too many deliveries", { maxDeliveries: 1001 }, "open.policy.max_deliveries"],
	])("is not delivered by a policy with %s", async (_name, policy, field) => {
		const peer = rig.attachUnopened("bob");
		peer.up({ frame: { case: "open", value: { policy } } });
		expect((await refusal(peer.frame())).metadata.field).toBe(field);
	});

	test("is refused where it would not fit into a commit with its dead letter", async () => {
		const payload = { body: { case: "binary", value: new Uint8Array(1000) } } as const;
		const request = durable("bob", { payload });
		const bytes = toBinary(SendRequestSchema, create(SendRequestSchema, request));
		// Unknown fields are carried along and are not content.
		const unknown = {
			no: 1000,
			wireType: 2,
			data: new Uint8Array([0x80, 0x80, 0x80, 0x01, ...new Uint8Array(2 << 20)]),
		};
		const message = create(MessageSchema, request.message as never);
		message.$unknown = [unknown];
		const large = toBinary(SendRequestSchema, create(SendRequestSchema, { ...request, message }));
		expect(large.byteLength).toBeGreaterThan(bytes.byteLength + (2 << 20));
		expect((await refusal(rig.raw("send", large, rig.call("alice").call))).reason).toBe("MESSAGE_TOO_LARGE");
	});

	test("cannot be a request", async () => {
		const stream = await rig.sendStream("alice");
		const entry = { entryId: 1n, ...durable("bob"), requestTimeout: seconds(1), durability: Durability.DURABLE };
		stream.up({ frame: { case: "batch", value: { entries: [entry] } } });
		const [result] = (await stream.expect("results")).results;
		expect(result!.outcome).toMatchObject({ case: "error", value: { reason: "INVALID_FIELD" } });
		stream.vanish();
	});
});

const NEGATIVE = { case: "negative", value: {} } as const;

describe("dead letters", () => {
	/** Sends and terminates so many messages. */
	async function bury(count: number): Promise<string[]> {
		const bob = await rig.attach("bob");
		for (let i = 0; i < count; i++) {
			await rig.send("alice", durable("bob", { id: `dead-${i}`, ttl: seconds(60) }));
			bob.terminate((await take(bob)).deliveryId, "cannot be read");
			await settled();
			await clock().advance(1);
		}
		bob.vanish();
		await settled();
		return (await rig.deadLetters("listDeadLetters", "bob", {})).deadLetters.map(({ id }) => id);
	}

	test("are listed oldest first, page by page, and shown with their payload one by one", async () => {
		const ids = await bury(5);
		const first = await rig.deadLetters("listDeadLetters", "", { pageSize: 3 });
		const second = await rig.deadLetters("listDeadLetters", "", { pageSize: 3, pageToken: first.nextPageToken });
		expect([...first.deadLetters, ...second.deadLetters].map(({ message }) => message!.id)).toEqual([
			"dead-0",
			"dead-1",
			"dead-2",
			"dead-3",
			"dead-4",
		]);
		expect(second.nextPageToken).toBe("");
		const { deadLetter } = await rig.deadLetters("getDeadLetter", "bob", { id: ids[1]! });
		expect(deadLetter).toMatchObject({ reason: "terminated: cannot be read", pluginId: "bob" });
		expect(deadLetter!.message!.payload!.body.value).toBe("1");
	});

	test("are seen by their plugin and operators only", async () => {
		const [id = ""] = await bury(1);
		expect((await rig.deadLetters("listDeadLetters", "alice", {})).deadLetters).toEqual([]);
		for (const method of ["getDeadLetter", "listDeadLetters"] as const) {
			const error = await refusal(rig.deadLetters(method, "alice", { pluginId: "bob", id } as never));
			expect(error.reason).toBe("CALLER_NOT_ALLOWED");
		}
		expect((await refusal(rig.deadLetters("getDeadLetter", "alice", { id }))).reason).toBe("DEAD_LETTER_NOT_FOUND");
		expect((await refusal(rig.deadLetters("getDeadLetter", "", { id }))).metadata.field).toBe("plugin_id");
	});

	test("are put back once, as new messages, in their order", async () => {
		const ids = await bury(3);
		const twice = await Promise.all([
			rig.deadLetters("redriveDeadLetters", "bob", { all: true }),
			rig.deadLetters("redriveDeadLetters", "bob", { ids }),
		]);
		expect(twice[0]!.ids).toEqual(ids);
		expect(twice[1]!.ids).toEqual([]);
		expect(twice[1]!.failures.map(({ error }) => error!.reason)).toEqual(Array(3).fill("DEAD_LETTER_NOT_FOUND"));
		restart();
		const bob = await rig.attach("bob");
		const deliveries = await bob.deliveries();
		expect(idsOf(deliveries)).toEqual(["dead-0", "dead-1", "dead-2"]);
		expect(deliveries.map(({ message }) => message!.attempt)).toEqual([1, 1, 1]);
		expect((await rig.deadLetters("listDeadLetters", "bob", {})).deadLetters).toEqual([]);
		bob.vanish();
	});

	test("stay where they cannot be put back", async () => {
		const [id = ""] = await bury(1);
		rig.plugins.set("bob", "disabled");
		const refused = await rig.deadLetters("redriveDeadLetters", "", { pluginId: "bob", ids: [id] });
		expect(refused.failures.map(({ error }) => error!.reason)).toEqual(["PLUGIN_DISABLED"]);
		rig.plugins.set("bob", "present");
		const commit = kv.commit.bind(kv);
		kv.commit = () => Promise.reject(new StorageError("full", "not-written", "the disk is full"));
		const { failures } = await rig.deadLetters("redriveDeadLetters", "bob", { ids: [id] });
		expect(failures.map(({ error }) => error!.reason)).toEqual(["STORAGE_FULL"]);
		kv.commit = commit;
		expect((await rig.deadLetters("redriveDeadLetters", "bob", { ids: [id] })).ids).toEqual([id]);
	});

	test("are deleted one by one or all", async () => {
		const ids = await bury(4);
		const some = await rig.deadLetters("deleteDeadLetters", "bob", { ids: [ids[1]!, "no-such"] });
		expect(some.ids).toEqual([ids[1]]);
		expect(some.failures.map(({ id }) => id)).toEqual(["no-such"]);
		restart();
		const rest = await rig.deadLetters("deleteDeadLetters", "bob", { all: true });
		expect(rest).toMatchObject({ ids: [ids[0], ids[2], ids[3]], more: false });
		expect(rig.letters.size).toBe(0);
		for (const request of [{}, { ids, all: true }]) {
			expect((await refusal(rig.deadLetters("deleteDeadLetters", "bob", request))).metadata.field).toBe("ids");
		}
	});
});
