import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Disposition, Priority } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { VolatileKvStore } from "../../src/state/volatile-kv-store.ts";
import { durable, idsOf, seconds, take } from "../harness/durable-send.ts";
import { FakeClock } from "../harness/fake-clock.ts";
import { MessagingRig } from "../harness/messaging-rig.ts";
import { refusal } from "../harness/refusal.ts";
import { settled } from "../harness/settled.ts";

const NEGATIVE = { case: "negative", value: {} } as const;

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
});
