import { expect, it } from "vitest";
import { asPromise } from "../../src/messaging/accepted-message.ts";
import { FanOut, type FanOutMessage } from "../../src/messaging/fan-out.ts";
import { parseMessage } from "../../src/messaging/message-draft.ts";
import { MiddlewareChain } from "../../src/messaging/middleware-chain.ts";
import { NO_MIRRORS, RouteTable } from "../../src/messaging/route-table.ts";
import { WireWriter } from "../../src/wire/wire-writer.ts";
import { SequentialIds } from "../harness/fake-clock.ts";
import { until } from "../harness/hub.ts";
import { MessagingRig } from "../harness/messaging-rig.ts";

const RECIPIENTS = Array.from({ length: 600 }, (_, index) => `p-${index}`);

function world() {
	const rig = new MessagingRig();
	for (const id of RECIPIENTS) rig.plugins.set(id, "present");
	const { clock, router } = rig;
	const middleware = new MiddlewareChain({ clock, ids: new SequentialIds("named-"), checkContent: () => undefined });
	let led = 0;
	const table = new RouteTable([], new SequentialIds("by-chance-"));
	const lead = () => {
		led++;
		return { recipient: "", mirrors: NO_MIRRORS };
	};
	const fanOut = new FanOut({ router, routes: { table, lead }, middleware, clock, ids: new SequentialIds("many-") });
	const wire = new WireWriter();
	wire.string(2, "news");
	const message = {
		draft: parseMessage(wire.finish(), "alice", "message", "durable"),
		source: "alice",
		origin: { kind: "publication", topic: "t" },
		durability: "durable",
		recipients: RECIPIENTS,
		refusal: () => undefined,
		mayMirror: () => true,
		failed: (_, error) => {
			throw error;
		},
	} satisfies FanOutMessage;
	return { rig, middleware, fanOut, message, led: () => led };
}

it("looks at no more than a bounded number of copies of one message at once", async () => {
	const { rig, middleware, fanOut, message } = world();
	const waiting: (() => void)[] = [];
	middleware.add({
		id: "slow",
		name: "slow",
		order: 0,
		deadlineMs: 5000,
		failsOpen: false,
		admits: () => true,
		inspect: (_, __, settle) => {
			waiting.push(() => settle({ kind: "pass" }));
			return () => {};
		},
	});
	const sent = fanOut.send(message);
	const sizes: number[] = [];
	for (let left = RECIPIENTS.length; left > 0; ) {
		const now = Math.min(left, 256);
		await until(() => waiting.length === now);
		sizes.push(middleware.size);
		left -= now;
		for (const release of waiting.splice(0)) release();
	}
	expect(sizes).toEqual([256, 256, 88]);
	expect(await sent).toMatchObject({ delivered: 0, queued: 600, merged: 0 });
	expect(middleware.size).toBe(0);
	rig[Symbol.dispose]();
});

it("asks no route and no middleware where there is none", async () => {
	const { rig, middleware, fanOut, message, led } = world();
	expect(await fanOut.send(message)).toMatchObject({ queued: 600, skipped: new Map() });
	expect([led(), middleware.size]).toEqual([0, 0]);
	rig[Symbol.dispose]();
});

it("stores a large message for all of many, however much of it may wait to be stored", async () => {
	const { rig, fanOut, message } = world();
	const wire = new WireWriter();
	wire.string(2, "news");
	const payload = new WireWriter();
	payload.bytes(2, new Uint8Array(1024 * 1024 - 1024));
	wire.bytes(10, payload.finish());
	const draft = parseMessage(wire.finish(), "alice", "message", "durable");
	const recipients = RECIPIENTS.slice(0, 100);
	expect(await fanOut.send({ ...message, draft, recipients })).toMatchObject({ queued: 100, skipped: new Map() });
	rig[Symbol.dispose]();
});

it("gives all recipients one content where two publications of one id with different content meet", async () => {
	const { rig, middleware, fanOut, message } = world();
	middleware.add({
		id: "later",
		name: "later",
		order: 0,
		deadlineMs: 5000,
		failsOpen: false,
		admits: () => true,
		inspect: (_, __, settle) => {
			setImmediate(() => settle({ kind: "pass" }));
			return () => {};
		},
	});
	const named = (type: string) => {
		const wire = new WireWriter();
		wire.string(1, "m-1");
		wire.string(2, type);
		return parseMessage(wire.finish(), "alice", "message", "durable");
	};
	const skipped: unknown[] = [];
	const failed = (_: string, error: unknown) => {
		skipped.push(error);
		return "ID_REUSED" as const;
	};
	const send = (type: string, recipients: readonly string[]) =>
		fanOut.send({ ...message, draft: named(type), recipients, failed });
	// From both ends, so that each is ahead of the other somewhere.
	const outcomes = await Promise.allSettled([
		send("one", RECIPIENTS),
		send("two", RECIPIENTS.toReversed()),
		send("one", RECIPIENTS),
	]);
	expect(outcomes).toMatchObject([
		{ status: "fulfilled", value: { queued: 600, duplicate: false } },
		{ status: "rejected", reason: { reason: "ID_REUSED" } },
		{ status: "fulfilled", value: { queued: 600, duplicate: true } },
	]);
	expect(skipped).toEqual([]);
	expect(rig.router.store.size).toBe(600);
	rig[Symbol.dispose]();
});

it("does not take an id that the sender's own mailbox knows for one that a recipient knows", async () => {
	const { rig, fanOut, message } = world();
	const named = (type: string) => {
		const wire = new WireWriter();
		wire.string(1, "m-1");
		wire.string(2, type);
		return parseMessage(wire.finish(), "alice", "message", "durable");
	};
	await asPromise((told) => rig.router.sendDurable(named("reminder"), "alice", "alice", told));
	const recipients = ["alice", "bob"];
	expect(await fanOut.send({ ...message, draft: named("news"), recipients })).toMatchObject({ queued: 1 });
	expect(await fanOut.send({ ...message, draft: named("news"), recipients })).toMatchObject({ duplicate: true });
	await expect(fanOut.send({ ...message, draft: named("other"), recipients })).rejects.toMatchObject({
		reason: "ID_REUSED",
	});
	rig[Symbol.dispose]();
});
