import { create, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Durability, MessageSchema, SendRequestSchema } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { StorageError } from "../../src/state/kv-store.ts";
import { VolatileKvStore } from "../../src/state/volatile-kv-store.ts";
import { durable, idsOf, seconds, take } from "../harness/durable-send.ts";
import { FakeClock } from "../harness/fake-clock.ts";
import { MessagingRig } from "../harness/messaging-rig.ts";
import { refusal } from "../harness/refusal.ts";
import { settled } from "../harness/settled.ts";

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

/** Nothing but marks of ids is left. */
function storedKeys(): string[] {
	return kv.range({ start: "mailbox/", end: "mailbox0", limit: 1000 }).entries.map(({ key }) => key);
}

describe("a durable message", () => {
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

	test("keeps its id however many settled messages another sender floods the hub with", async () => {
		rig[Symbol.dispose]();
		rig = new MessagingRig({ clock: rig.clock, kv, storage: { maxMarks: 100 } });
		const bob = await rig.attach("bob");
		const sendAll = async (from: string, count: number) => {
			for (let i = 0; i < count; i++) {
				await rig.send(from, durable("bob", { id: `m-${i}` }));
				bob.acknowledge((await take(bob)).deliveryId);
				await settled();
			}
		};
		await sendAll("carol", 20);
		await sendAll("alice", 1300);
		expect(rig.router.store.held.marks).toBeLessThanOrEqual(600);
		for (let i = 0; i < 20; i++) {
			expect((await rig.send("carol", durable("bob", { id: `m-${i}` }))).duplicate).toBe(true);
		}
		expect((await rig.send("alice", durable("bob", { id: "m-1299" }))).duplicate).toBe(true);
		expect((await rig.send("alice", durable("bob", { id: "m-0" }))).duplicate).toBe(false);
		await clock().advance(121_000);
		expect(rig.router.store.held.marks).toBe(0);
		bob.vanish();
	});

	test("leaves its id in one record with those that are settled with it, which goes with the last of them", async () => {
		for (const id of ["a", "b"]) await rig.send("alice", durable("bob", { id }));
		await clock().advance(60_000);
		await rig.send("carol", durable("bob", { id: "c" }));
		await rig.send("carol", durable("bob"));
		const bob = await rig.attach("bob");
		bob.acknowledge(...(await bob.deliveries()).map(({ deliveryId }) => deliveryId));
		await settled();
		expect(storedKeys()).toEqual(["mailbox/bob/00000000000001.m"]);
		restart();
		for (const id of ["a", "b"]) expect((await rig.send("alice", durable("bob", { id }))).duplicate).toBe(true);
		await clock().advance(60_000);
		expect(storedKeys()).toHaveLength(1);
		expect((await rig.send("carol", durable("bob", { id: "c" }))).duplicate).toBe(true);
		await clock().advance(60_000);
		expect(storedKeys()).toEqual([]);
		expect(rig.router.store.held.marks).toBe(0);
	});

	test("that is being settled leaves nothing where its recipient is unregistered meanwhile", async () => {
		const bob = await rig.attach("bob");
		for (const id of ["a", "b"]) await rig.send("alice", durable("bob", { id }));
		bob.acknowledge(...(await bob.deliveries()).map(({ deliveryId }) => deliveryId));
		const commit = kv.commit.bind(kv);
		const held = Promise.withResolvers<void>();
		kv.commit = async (asked) => {
			await held.promise;
			return commit(asked);
		};
		await settled();
		rig.unregister("bob");
		await settled();
		held.resolve();
		await settled();
		expect(storedKeys()).toEqual([]);
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

	test("is one record with those that are accepted with it, of which what is not settled is there after a restart", async () => {
		await Promise.all(["a", "b", "c", "d"].map((id) => rig.send("alice", durable("bob", { id }))));
		expect(storedKeys()).toEqual(["mailbox/bob/00000000000001"]);
		const bob = await rig.attach("bob");
		const [a, , c] = await bob.deliveries();
		bob.acknowledge(a!.deliveryId);
		bob.refuse(c!.deliveryId);
		await settled();
		expect(storedKeys()).toEqual(
			["", ".m", ".s"].map((suffix) => `mailbox/bob/00000000000001${suffix}`).concat("mailbox/bob/00000000000003.d"),
		);
		restart();
		const next = await rig.attach("bob");
		const deliveries = await next.deliveries();
		expect(deliveries.map(({ message }) => [message!.id, message!.attempt])).toEqual([
			["b", 1],
			["c", 2],
			["d", 1],
		]);
		next.acknowledge(...deliveries.map(({ deliveryId }) => deliveryId));
		await settled();
		expect(storedKeys().filter((key) => !key.endsWith(".m"))).toEqual([]);
		next.vanish();
	});

	test("that could not be settled is not by what is settled after it in the same block", async () => {
		await Promise.all(["a", "b", "c"].map((id) => rig.send("alice", durable("bob", { id }))));
		const bob = await rig.attach("bob");
		const [a, b] = await bob.deliveries();
		const commit = kv.commit.bind(kv);
		kv.commit = () => Promise.reject(new StorageError("full", "not-written", "the disk is full"));
		bob.terminate(a!.deliveryId, "no");
		await settled();
		kv.commit = commit;
		bob.acknowledge(b!.deliveryId);
		await settled();
		restart();
		expect(rig.letters.size).toBe(0);
		const next = await rig.attach("bob");
		expect(idsOf(await next.deliveries())).toEqual(["a", "c"]);
		next.vanish();
	});

	test("that waits long does not keep what was settled beside it", async () => {
		const payload = { body: { case: "json", value: JSON.stringify("x".repeat(1_000)) } } as const;
		const deliverAt = timestampFromMs(clock().now() + 3_600_000);
		const later = { id: "later", payload, deliverAt };
		const others = Array.from({ length: 20 }, (_, at) => ({ id: `m-${at}`, payload }));
		await Promise.all([...others, later].map((message) => rig.send("alice", durable("bob", message))));
		const bytes = () => kv.get("mailbox/bob/00000000000001")!.value.byteLength;
		const bob = await rig.attach("bob");
		const before = bytes();
		bob.acknowledge(...(await bob.deliveries()).map(({ deliveryId }) => deliveryId));
		await settled();
		expect(bytes()).toBe(before);
		await clock().advance(10_000);
		await settled();
		expect(bytes()).toBeLessThan(before / 15);
		expect(storedKeys().filter((key) => key.endsWith(".s"))).toEqual([]);
		restart();
		const next = await rig.attach("bob");
		await clock().advance(3_600_000);
		const [delivery] = await next.deliveries();
		expect(delivery!.message).toMatchObject({ id: "later", payload });
		next.acknowledge(delivery!.deliveryId);
		await settled();
		expect(kv.get("mailbox/bob/00000000000001")).toBeUndefined();
		next.vanish();
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
