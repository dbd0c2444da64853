import type { MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import {
	type AttachRequestSchema,
	type AttachResponse,
	Durability,
	type SendStreamRequestSchema,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { Mailbox } from "../../src/streams/mailbox.ts";
import { type Clients, describeHubs, reasonOf } from "../harness/hub.ts";

const to = (value: string) => ({ target: { case: "pluginId", value } }) as const;
const message = { type: "ask", payload: { body: { case: "json", value: "[1]" } } } as const;

/** An `Attach` stream past its `ready`. */
async function attach(clients: Clients) {
	const up = new Mailbox<MessageInitShape<typeof AttachRequestSchema>>({ maxItems: 100 });
	const frames = clients.messaging.attach(up)[Symbol.asyncIterator]();
	const next = async () => ((await frames.next()).value as AttachResponse).frame;
	up.push({ frame: { case: "open", value: {} } });
	expect((await next()).case).toBe("ready");
	return { up, next };
}

describeHubs("messages over the wire", (start) => {
	test("a request reaches the recipient and its reply comes back", async () => {
		await using hub = await start();
		const [alice, bob] = [await hub.enrol("alice"), await hub.enrol("bob")];
		const { up, next } = await attach(bob);
		const answer = alice.messaging.request({ to: to("bob"), message });
		const frame = await next();
		if (frame.case !== "batch") throw new Error(`got ${frame.case}`);
		const [delivery] = frame.value.deliveries;
		expect(delivery!.message).toMatchObject({ source: "alice", recipient: "bob", payload: message.payload });
		const reply = { success: true, data: { body: { case: "json", value: "[2]" } } } as const;
		up.push({ frame: { case: "reply", value: { deliveryId: delivery!.deliveryId, reply } } });
		expect(await answer).toMatchObject({ source: "bob", reply });
		up.close();
	});

	test("a caller that gives up is gone for the handler too", async () => {
		await using hub = await start();
		const [alice, bob] = [await hub.enrol("alice"), await hub.enrol("bob")];
		const { up, next } = await attach(bob);
		const gone = new AbortController();
		const answer = alice.messaging.request({ to: to("bob"), message }, { signal: gone.signal });
		answer.catch(() => {});
		expect((await next()).case).toBe("batch");
		gone.abort();
		expect(await next()).toMatchObject({ case: "cancelled", value: { reason: "CANCELLED" } });
		const timeout = { nanos: 200_000_000 };
		const late = alice.messaging.request({ to: to("bob"), message, timeout });
		late.catch(() => {});
		expect((await next()).case).toBe("batch");
		await expect(late).rejects.toMatchObject({ code: 4 });
		expect(await next()).toMatchObject({ case: "cancelled", value: { reason: "DEADLINE_EXCEEDED" } });
		up.close();
	});

	test("who may not send learns nothing; who may learns whether there is a recipient", async () => {
		await using hub = await start();
		const [alice, mute] = [await hub.enrol("alice"), await hub.enrol("mute", {})];
		const send = (from: Clients, recipient: string) =>
			from.messaging.send({ to: to(recipient), message, durability: Durability.TRANSIENT });
		for (const recipient of ["alice", "nobody"]) {
			expect(await refusalOf(send(mute, recipient))).toBe("NO_SEND_PERMISSION");
		}
		expect(await refusalOf(send(alice, "nobody"))).toBe("NO_ROUTE");
		expect(await refusalOf(send(alice, "alice"))).toBe("RECIPIENT_UNAVAILABLE");
	});

	test("a stream of messages and requests is answered entry by entry", async () => {
		await using hub = await start();
		const [alice, bob] = [await hub.enrol("alice"), await hub.enrol("bob")];
		const { up, next } = await attach(bob);
		const sends = new Mailbox<MessageInitShape<typeof SendStreamRequestSchema>>({ maxItems: 10 });
		const durability = Durability.TRANSIENT;
		const entries = [
			{ entryId: 1n, to: to("bob"), message, requestTimeout: { seconds: 10n } },
			{ entryId: 2n, to: to("bob"), message, durability },
			{ entryId: 3n, to: to("nobody"), message, durability },
		];
		sends.push({ frame: { case: "batch", value: { entries } } });
		const outcomes = new Map<bigint, string | undefined>();
		const reading = (async () => {
			for await (const { frame } of alice.messaging.sendStream(sends)) {
				if (frame.case === "results")
					for (const { entryId, outcome } of frame.value.results) outcomes.set(entryId, outcome.case);
			}
		})();
		let answered = 0;
		while (answered < 2) {
			const frame = await next();
			if (frame.case !== "batch") throw new Error(`got ${frame.case}`);
			for (const { deliveryId, message } of frame.value.deliveries) {
				answered++;
				if (message!.requiresResponse)
					up.push({ frame: { case: "reply", value: { deliveryId, reply: { success: true } } } });
			}
		}
		sends.close();
		await reading;
		expect([...outcomes].sort()).toEqual([
			[1n, "reply"],
			[2n, "accepted"],
			[3n, "error"],
		]);
		up.close();
	});

	test("a plugin that is disabled stops receiving", async () => {
		await using hub = await start();
		const bob = await hub.enrol("bob");
		const { next } = await attach(bob);
		await hub.operator.plugins.disable({ pluginId: "bob", reason: "test" });
		expect(await next()).toMatchObject({ case: "revoked", value: { reason: "PLUGIN_DISABLED" } });
		await expect(next()).rejects.toThrow();
	});
});

async function refusalOf(promise: Promise<unknown>): Promise<string | undefined> {
	return promise.then(
		() => "not refused",
		(error) => reasonOf(error),
	);
}
