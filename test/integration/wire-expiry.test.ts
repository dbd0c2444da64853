import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, it } from "vitest";
import { Disposition, Durability } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { seconds } from "../harness/durable-send.ts";
import { failureOf } from "../harness/failure.ts";
import { describeHubs } from "../harness/hub.ts";
import { Inbox } from "../harness/inbox.ts";
import { SkippingClock, UNHURRIED } from "../harness/skipping-clock.ts";

const to = { target: { case: "pluginId", value: "receiver" } } as const;

/** Times are put forward by less than a delivery waits for its acknowledgement, and the hub for its storage. */
describeHubs("a message's time", (start) => {
	const world = async () => {
		const clock = new SkippingClock();
		const hub = await start({ clock, options: UNHURRIED });
		const [sender, receiver] = [await hub.enrol("sender"), await hub.enrol("receiver")];
		const send = (id: string, more: object = {}, durability = Durability.DURABLE) =>
			sender.messaging.send({ to, message: { type: "job", id, ...more }, durability });
		return { clock, hub, receiver, send };
	};

	it("to live is counted from its acceptance, or from when it is due; then it is gone, and no dead letter", async () => {
		const { clock, hub, receiver, send } = await world();
		await using _ = hub;
		const deliverAt = timestampFromMs(clock.now() + 20_000);
		await send("short", { ttl: seconds(10) });
		await send("long", { ttl: seconds(40) });
		await send("later", { ttl: seconds(10), deliverAt });
		clock.skip(11_000);
		const inbox = await Inbox.open(receiver);
		await inbox.came(1);
		expect(inbox.ids).toEqual(["long"]);
		await inbox.close();
		clock.skip(20_000);
		await send("last");
		const again = await Inbox.open(receiver);
		await again.came(1);
		expect(again.ids).toEqual(["last"]);
		expect((await receiver.messaging.listDeadLetters({})).deadLetters).toEqual([]);
	});

	it("to be delivered is not before it is due, behind what came until then", async () => {
		const { clock, hub, receiver, send } = await world();
		await using _ = hub;
		const inbox = await Inbox.open(receiver);
		const at = (ms: number) => ({ deliverAt: timestampFromMs(clock.now() + ms), orderingKey: "k" });
		for (const [id, ms] of [
			["third", 20_000],
			["second", 10_000],
		] as const) {
			expect(await send(id, at(ms))).toMatchObject({ disposition: Disposition.QUEUED });
		}
		await send("first", { orderingKey: "k" });
		await inbox.came(1);
		clock.skip(11_000);
		await inbox.came(2);
		clock.skip(10_000);
		await inbox.came(3);
		expect(inbox.ids).toEqual(["first", "second", "third"]);
		expect(await failureOf(send("transient", at(1000), Durability.TRANSIENT))).toMatchObject({
			reason: "INVALID_FIELD",
			metadata: { field: "message.deliver_at" },
		});
	});
});
