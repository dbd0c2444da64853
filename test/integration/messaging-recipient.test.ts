import { expect, test } from "vitest";
import type { Clock } from "../../src/clock/clock.ts";
import { DeadLetters } from "../../src/dead-letters/dead-letters.ts";
import { DEFAULT_POLICY } from "../../src/messaging/delivery-policy.ts";
import { MessageMemory } from "../../src/messaging/message-memory.ts";
import { MessageStore } from "../../src/messaging/message-store.ts";
import { MessagingCounters } from "../../src/messaging/messaging-counters.ts";
import { QueuedMessage } from "../../src/messaging/queued-message.ts";
import { ReceivingSession, type SessionOutput } from "../../src/messaging/receiving-session.ts";
import { Recipient } from "../../src/messaging/recipient.ts";
import { CommitQueue } from "../../src/state/commit-queue.ts";
import { VolatileKvStore } from "../../src/state/volatile-kv-store.ts";
import { DeadlineQueue } from "../../src/streams/deadline-queue.ts";
import { SequentialIds } from "../harness/fake-clock.ts";

/** A recipient with one session, on a clock whose timers are late for ever. */
function attached(maxBytes = 1 << 20) {
	let now = 0;
	const timer = { cancel() {} };
	const clock: Clock = { now: () => now, monotonic: () => now, after: () => timer, every: () => timer };
	const counters = new MessagingCounters();
	const kv = new VolatileKvStore(clock);
	const ids = new SequentialIds();
	const queue = new CommitQueue({ kv, clock, ids });
	const recipient = new Recipient({
		pluginId: "bob",
		clock,
		deadlines: new DeadlineQueue(clock),
		counters,
		bounds: { maxMessages: 100, maxBytes },
		memory: new MessageMemory(),
		store: new MessageStore({ kv, queue, clock, ids }),
		letters: new DeadLetters({ kv, queue, clock, ids }),
		onDeserted: () => {},
	});
	const join = () => {
		const session = new ReceivingSession(recipient, {
			id: "s",
			pluginId: "bob",
			instanceId: "",
			maxInFlight: 10,
			policy: DEFAULT_POLICY,
		});
		recipient.join(session);
		return session;
	};
	const pass = (ms: number) => {
		now += ms;
	};
	return { recipient, session: join(), join, counters, pass };
}

/** A message whose bytes lie in a large buffer, as those of a new one may. */
function pooled(id: string): QueuedMessage {
	const one = message(id);
	one.bytes = Buffer.alloc(64 * 1024, id).subarray(0, id.length);
	return one;
}

const message = (id: string, expiresAt = Number.POSITIVE_INFINITY) =>
	new QueuedMessage({
		id,
		source: "alice",
		priority: 1,
		orderingKey: "",
		bytes: Buffer.from(id),
		size: id.length,
		expiresAt,
		request: undefined,
		stored: undefined,
	});

function messages(output: SessionOutput | undefined): readonly string[] {
	if (output?.kind !== "deliveries") return [];
	return output.deliveries.map(({ message: { bytes, start, end } }) => String(bytes.subarray(start, end)));
}

test("a message whose time is over is not delivered, however late the timer is", () => {
	const { recipient, session, counters, pass } = attached();
	recipient.offer(message("short", 1000));
	recipient.offer(message("long", 1001));
	pass(1000);
	expect(messages(session.collect())).toEqual(["long"]);
	expect(counters).toMatchObject({ expired: 1, delivered: 1 });
});

test("what comes back leaves its place to others, as often as it comes back", () => {
	const { recipient, session, join } = attached(1000);
	for (let round = 0; round < 10; round++) {
		recipient.offer(message(`m${round}`));
		for (let attempt = 1; attempt < 5; attempt++) {
			expect(messages(session.collect())).toEqual([`m${round}`]);
			session.settle(String(round * 5 + attempt), { kind: "negative", delayMs: 0 });
		}
		expect(messages(session.collect())).toEqual([`m${round}`]);
		session.settle(String(round * 5 + 5), { kind: "acknowledge" });
	}
	// Assigned to a session that ends before it was handed out.
	const other = join();
	for (let round = 0; round < 10; round++) {
		const leaving = join();
		expect(leaving.collect()).toBeUndefined();
		recipient.offer(message(`n${round}`));
		leaving.close();
		expect(messages(other.collect())).toEqual([`n${round}`]);
		other.settle(String(round + 1), { kind: "acknowledge" });
	}
});

test("a delivery that was not handed out yet cannot be settled by a guess", () => {
	const { recipient, session, counters } = attached();
	expect(session.collect()).toBeUndefined();
	expect(recipient.offer(message("m"))).toBe("delivered");
	expect(() => session.settle("1", { kind: "acknowledge" })).toThrow(
		expect.objectContaining({ reason: "DELIVERY_NOT_FOUND" }),
	);
	expect(messages(session.collect())).toEqual(["m"]);
	session.settle("1", { kind: "acknowledge" });
	expect(session.unsettled).toBe(0);
	expect(counters.late).toBe(1);
});

test("a message keeps little beside its own bytes, whether it waits or is delivered and not settled", () => {
	const { recipient, session } = attached();
	const waiting = pooled("waiting");
	expect(recipient.offer(waiting)).toBe("queued");
	expect(messages(session.collect())).toEqual(["waiting"]);
	expect(session.collect()).toBeUndefined();
	const delivered = pooled("delivered");
	expect(recipient.offer(delivered)).toBe("delivered");
	expect(messages(session.collect())).toEqual(["delivered"]);
	for (const { bytes } of [waiting, delivered]) expect(bytes!.buffer.byteLength).toBeLessThan(2048);
});
