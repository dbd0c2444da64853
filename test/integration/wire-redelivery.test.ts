import type { MessageInitShape } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import {
	type AttachOpenSchema,
	type AttachRequestSchema,
	type Delivery,
	Durability,
	Priority,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { seconds } from "../harness/durable-send.ts";
import { Feed } from "../harness/feed.ts";
import { type Clients, describeHubs, until } from "../harness/hub.ts";
import { Outbox } from "../harness/outbox.ts";
import { SkippingClock, UNHURRIED } from "../harness/skipping-clock.ts";

type Up = MessageInitShape<typeof AttachRequestSchema>;
type Policy = MessageInitShape<typeof AttachOpenSchema>["policy"];

const to = (pluginId: string) => ({ target: { case: "pluginId", value: pluginId } }) as const;
const TRANSIENT = Durability.TRANSIENT;
const ACKNOWLEDGE = { case: "acknowledge", value: true } as const;
const IN_PROGRESS = { case: "inProgress", value: true } as const;
const refuse = (delaySeconds?: number) =>
	({
		case: "negative",
		value: { ...(delaySeconds !== undefined && { delay: seconds(delaySeconds) }) },
	}) as const;

function send({ messaging }: Clients, id: string, more: object = {}, recipient = "receiver") {
	return messaging.send({ to: to(recipient), message: { type: "job", id, ...more } });
}

/** A receiving session whose deliveries are looked at one after the other. */
async function attach(plugin: Clients, policy: Policy, maxInFlight = 100) {
	const up = new Outbox<Up>({ frame: { case: "open", value: { maxInFlight, policy } } });
	const down = new Feed(plugin.messaging.attach(up));
	await down.first("ready");
	let seen = 0;
	const all = () => down.all("batch").flatMap(({ deliveries }) => deliveries);
	const settle = ({ deliveryId }: Delivery, outcome: object) =>
		up.push({ frame: { case: "settlement", value: { deliveries: [{ deliveryId, outcome }] } } } as Up);
	return {
		down,
		settle,
		/** Deliveries that were not looked at. */
		waiting: () => all().length - seen,
		/** The next delivery, as its message's id and attempt; and the delivery. */
		async next(): Promise<[string, number, Delivery]> {
			await down.when(() => all().length > seen);
			const delivery = all()[seen++]!;
			return [delivery.message!.id, delivery.message!.attempt, delivery];
		},
		/**
		 * Everything that the hub was told so far has been heard and stored: the answer to a settlement of nothing is behind
		 * it, and so is the commit of another message.
		 */
		async stored(): Promise<void> {
			const before = down.all("failures").length;
			up.push({
				frame: { case: "settlement", value: { deliveries: [{ deliveryId: "none", outcome: ACKNOWLEDGE }] } },
			} as Up);
			await down.when(() => down.all("failures").length > before);
			await send(plugin, "", {}, "nobody");
		},
	};
}

async function deadIds({ messaging }: Clients): Promise<string[]> {
	const { deadLetters } = await messaging.listDeadLetters({});
	return deadLetters.map(({ message, reason }) => `${message!.id}: ${reason}`);
}

describeHubs("a message that is not handled", (start) => {
	async function world() {
		const clock = new SkippingClock();
		const hub = await start({ clock, options: UNHURRIED });
		await hub.enrol("nobody");
		return { clock, hub, sender: await hub.enrol("sender"), receiver: await hub.enrol("receiver") };
	}

	it("comes again after the delay that its recipient asks for, while others go on", async () => {
		const { clock, hub, sender, receiver } = await world();
		await using _ = hub;
		const bob = await attach(receiver, {});
		await send(sender, "a", { orderingKey: "k" });
		const [id, attempt, a] = await bob.next();
		expect([id, attempt]).toEqual(["a", 1]);
		await send(sender, "behind", { orderingKey: "k" });
		bob.settle(a, refuse(60));
		await bob.stored();
		await send(sender, "b");
		const [other, , b] = await bob.next();
		expect(other).toBe("b");
		bob.settle(b, ACKNOWLEDGE);
		await bob.stored();
		clock.skip(40_000);
		await bob.stored();
		expect(bob.waiting()).toBe(0);
		clock.skip(20_000);
		const [again, second, delivery] = await bob.next();
		expect([again, second]).toEqual(["a", 2]);
		bob.settle(delivery, ACKNOWLEDGE);
		expect((await bob.next()).slice(0, 2)).toEqual(["behind", 1]);
	});

	it("comes again as the backoff list says, the last of it for all that follow", async () => {
		const { clock, hub, sender, receiver } = await world();
		await using _ = hub;
		const bob = await attach(receiver, { backoff: [seconds(40), seconds(70)], maxDeliveries: 4 });
		await send(sender, "bad");
		for (const [index, pause] of [40_000, 70_000, 70_000].entries()) {
			const [id, attempt, delivery] = await bob.next();
			expect([id, attempt]).toEqual(["bad", index + 1]);
			bob.settle(delivery, refuse());
			await bob.stored();
			clock.skip(pause - 20_000);
			await bob.stored();
			expect(bob.waiting()).toBe(0);
			clock.skip(20_000);
		}
		const [, attempt, last] = await bob.next();
		expect(attempt).toBe(4);
		bob.settle(last, refuse());
		await until(async () => (await deadIds(receiver)).length === 1);
		expect(await deadIds(receiver)).toEqual(["bad: refused by its recipient, in delivery 4"]);
	});

	it("stays with who says that it is in progress, and is another's after the ack wait", async () => {
		const { clock, hub, sender, receiver } = await world();
		await using _ = hub;
		const bob = await attach(receiver, { ackWait: seconds(60) }, 1);
		await send(sender, "slow");
		const [, , slow] = await bob.next();
		const other = await attach(receiver, { ackWait: seconds(60) });
		for (let round = 0; round < 3; round++) {
			clock.skip(40_000);
			bob.settle(slow, IN_PROGRESS);
			await bob.stored();
		}
		expect([bob.waiting(), other.waiting()]).toEqual([0, 0]);
		clock.skip(60_000);
		await until(() => bob.waiting() + other.waiting() === 1);
		const winner = bob.waiting() === 1 ? bob : other;
		const [id, attempt, again] = await winner.next();
		expect([id, attempt]).toEqual(["slow", 2]);
		const late = bob.down.all("failures").length;
		bob.settle(slow, ACKNOWLEDGE);
		await bob.down.when(() => bob.down.all("failures").length > late);
		expect(bob.down.all("failures").at(-1)!.failures).toMatchObject([{ error: { reason: "DELIVERY_NOT_FOUND" } }]);
		winner.settle(again, ACKNOWLEDGE);
		await winner.stored();
		clock.skip(100_000);
		await winner.stored();
		expect([bob.waiting(), other.waiting()]).toEqual([0, 0]);
	});

	it("is set aside when it is poison, and what is behind it arrives", async () => {
		const { hub, sender, receiver } = await world();
		await using _ = hub;
		const bob = await attach(receiver, { maxDeliveries: 3 }, 1);
		await send(sender, "poison", { orderingKey: "k", priority: Priority.HIGH });
		await send(sender, "broken", { orderingKey: "k", priority: Priority.HIGH });
		await send(sender, "good", { orderingKey: "k", priority: Priority.LOW });
		const seen: string[] = [];
		while (!seen.includes("good 1")) {
			const [id, attempt, delivery] = await bob.next();
			seen.push(`${id} ${attempt}`);
			if (id === "poison") bob.settle(delivery, refuse());
			else if (id === "broken") bob.settle(delivery, { case: "terminate", value: { reason: "unreadable" } });
			else bob.settle(delivery, ACKNOWLEDGE);
		}
		expect(seen).toEqual(["poison 1", "poison 2", "poison 3", "broken 1", "good 1"]);
		expect(await deadIds(receiver)).toEqual([
			"poison: refused by its recipient, in delivery 3",
			"broken: terminated: unreadable",
		]);
		// A transient one is tried as often as the contract says, and then dropped.
		await sender.messaging.send({ to: to("receiver"), message: { type: "job", id: "t" }, durability: TRANSIENT });
		for (let attempt = 1; attempt <= 5; attempt++) {
			const [id, tried, delivery] = await bob.next();
			expect([id, tried]).toEqual(["t", attempt]);
			bob.settle(delivery, refuse());
		}
		await bob.stored();
		await send(sender, "after");
		expect((await bob.next()).slice(0, 2)).toEqual(["after", 1]);
		expect(await deadIds(receiver)).toHaveLength(2);
	});
});
