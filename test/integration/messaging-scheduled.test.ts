import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { durable } from "../harness/durable-send.ts";
import { MessagingRig } from "../harness/messaging-rig.ts";
import { refusal } from "../harness/refusal.ts";

const MAILBOX = { maxMessages: 40 };
const DAY_MS = 86_400_000;

/** Sends for tomorrow until it is refused; how many were taken. */
async function fill(rig: MessagingRig, from: string): Promise<number> {
	const deliverAt = timestampFromMs(rig.clock.now() + DAY_MS);
	for (let taken = 0; ; taken++) {
		const outcome = await rig.send(from, durable("bob", { deliverAt })).catch(() => undefined);
		if (outcome === undefined) return taken;
	}
}

test("what a sender sends for later leaves room in the mailbox for what others send, now and for later", async () => {
	let rig = new MessagingRig({ mailbox: MAILBOX });
	expect(await fill(rig, "alice")).toBeGreaterThan(15);
	const deliverAt = timestampFromMs(rig.clock.now() + DAY_MS);
	const error = await refusal(rig.send("alice", durable("bob", { deliverAt })));
	expect(error).toMatchObject({
		reason: "MAILBOX_FULL",
		options: { quota: { description: "messages in its mailbox that are not due, of this sender" } },
	});
	expect(await fill(rig, "carol")).toBeGreaterThan(0);
	expect(rig.router.backlog.messages).toBeLessThanOrEqual(20);
	for (let each = 0; each < 20; each++) await rig.send("carol", durable("bob"));
	rig[Symbol.dispose]();

	// Their places are taken after a restart too, and free when they are due.
	const { clock, kv } = rig;
	rig = new MessagingRig({ clock, kv, mailbox: { maxMessages: 1000 } });
	const more = await fill(rig, "alice");
	expect(await fill(rig, "alice")).toBe(0);
	await clock.advance(DAY_MS);
	expect(await fill(rig, "alice")).toBeGreaterThan(more);
	rig[Symbol.dispose]();
});

test("large messages for later are bounded by their bytes", async () => {
	const rig = new MessagingRig({ mailbox: { maxBytes: 100_000 } });
	const deliverAt = timestampFromMs(rig.clock.now() + DAY_MS);
	const large = durable("bob", { deliverAt, payload: { body: { case: "binary", value: new Uint8Array(10_000) } } });
	for (let each = 0; each < 4; each++) await rig.send("alice", large);
	expect((await refusal(rig.send("alice", large))).reason).toBe("MAILBOX_FULL");
	await rig.send("alice", durable("bob"));
	rig[Symbol.dispose]();
});
