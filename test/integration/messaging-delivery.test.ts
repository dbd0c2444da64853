import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Disposition, Durability, Priority } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { HubError } from "../../src/hub-error.ts";
import { MessagingRig } from "../harness/messaging-rig.ts";
import { refusal } from "../harness/refusal.ts";
import { settled } from "../harness/settled.ts";

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

	test("passes on what an instance never got before what came later", async () => {
		const first = await rig.attach("bob", { maxInFlight: 2 });
		await first.pull();
		await rig.send("alice", transient("bob", { id: "had", orderingKey: "k" }));
		await first.deliveries();
		await first.pull();
		const second = await rig.attach("bob", { maxInFlight: 2 });
		await second.pull();
		await rig.send("alice", transient("bob", { id: "other" }));
		expect((await second.deliveries())[0]!.message!.id).toBe("other");
		await second.pull();
		// Both are equally busy, so the first one is to have "early"; "late" waits for its key.
		const sent = ["early", "late"].map((id) =>
			rig.send("alice", transient("bob", { id, orderingKey: id === "late" ? "k" : "" })),
		);
		first.vanish();
		await Promise.all(sent);
		expect((await second.deliveries()).map(({ message }) => message!.id)).toEqual(["early"]);
		second.acknowledge("1");
		expect((await second.deliveries()).map(({ message }) => message!.id)).toEqual(["late"]);
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

	test("says nothing before it is opened", async () => {
		const bob = rig.attachUnopened("bob");
		await bob.pull();
		await rig.clock.advance(60_000);
		expect(await bob.idle()).toBe(true);
		bob.up({ frame: { case: "open", value: {} } });
		expect((await bob.expect("ready")).heartbeatInterval!.seconds).toBe(15n);
		bob.vanish();
	});

	test("holds no more bytes unsettled than the mailbox may hold, whatever its credit", async () => {
		using narrow = new MessagingRig({ mailbox: { maxBytes: 4000 } });
		const bob = await narrow.attach("bob", { maxInFlight: 10_000 });
		await bob.pull();
		const large = transient("bob", { payload: json(`"${"x".repeat(1500)}"`) });
		const held: string[] = [];
		for (let i = 0; i < 4; i++) {
			await narrow.send("alice", large);
			if (!(await bob.idle())) held.push(...(await bob.deliveries()).map(({ deliveryId }) => deliveryId));
		}
		expect(held).toHaveLength(3);
		bob.acknowledge(...held);
		expect(await bob.deliveries()).toHaveLength(1);
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
