import type { MessageInitShape } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { type AttachRequestSchema, Durability, Priority } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { Feed } from "../harness/feed.ts";
import { describeHubs, until } from "../harness/hub.ts";
import { Outbox } from "../harness/outbox.ts";
import { Sending } from "../harness/sending.ts";

type Up = MessageInitShape<typeof AttachRequestSchema>;

const TOTAL_HIGH = 10_000;
const ACKNOWLEDGE = { case: "acknowledge", value: true } as const;
const to = (pluginId: string) => ({ target: { case: "pluginId", value: pluginId } }) as const;

describeHubs("a low priority", (start) => {
	it.each([
		["durable", Durability.DURABLE],
		["transient", Durability.TRANSIENT],
	])("is not starved by another sender's 10,000 of a high one (%s)", async (_name, durability) => {
		await using hub = await start();
		const [loud, quiet, receiver] = [await hub.enrol("loud"), await hub.enrol("quiet"), await hub.enrol("receiver")];
		const up = new Outbox<Up>(
			{ frame: { case: "open", value: { maxInFlight: 1 } } },
			{ frame: { case: "credit", value: { maxInFlight: 0 } } },
		);
		const down = new Feed(receiver.messaging.attach(up));
		await down.first("ready");
		const entries = (count: number, priority: Priority) =>
			Array.from({ length: count }, () => ({ to: to("receiver"), message: { type: "job", priority }, durability }));
		const refused: string[] = [];
		const told = (outcome: { readonly case?: string; readonly value?: unknown }) => {
			if (outcome.case !== "accepted") refused.push(JSON.stringify(outcome.value));
		};
		const [flood, trickle] = [new Sending(loud), new Sending(quiet)];
		let sent = 0;
		const high = (count: number) => {
			flood.send(entries(count, Priority.HIGH), told);
			sent += count;
		};
		// 10,000 may wait: the last of the high ones are sent when the first have gone.
		while (sent < 9_000) high(1_000);
		high(990);
		await until(() => flood.unanswered === 0, { ms: 20_000 });
		trickle.send(entries(10, Priority.LOW), told);
		await until(() => trickle.unanswered === 0);
		expect(refused).toEqual([]);
		up.push({ frame: { case: "credit", value: { maxInFlight: 50 } } });
		const places: number[] = [];
		let [served, batches] = [0, 0];
		while (served < TOTAL_HIGH + 10) {
			await down.when(() => down.all("batch").length > batches);
			const { deliveries } = down.all("batch")[batches++]!;
			for (const { message } of deliveries) {
				served++;
				if (message!.priority === Priority.LOW) places.push(served);
			}
			if (sent < TOTAL_HIGH && served > 1_000) high(TOTAL_HIGH - sent);
			const settled = deliveries.map(({ deliveryId }) => ({ deliveryId, outcome: ACKNOWLEDGE }));
			up.push({ frame: { case: "settlement", value: { deliveries: settled } } });
		}
		expect(refused).toEqual([]);
		expect(places).toHaveLength(10);
		// While nothing of normal priority waits, one in nine is low.
		expect(places.at(-1)).toBeLessThanOrEqual(10 * 9);
	});
});
