import fc from "fast-check";
import { expect, test } from "vitest";
import { MessageMemory, memoryCost } from "../../src/messaging/message-memory.ts";
import { QueuedMessage } from "../../src/messaging/queued-message.ts";

const MAX_BYTES = 4 * 1024 * 1024;

function transient(size: number): QueuedMessage {
	const bytes = Buffer.alloc(size, "x");
	return new QueuedMessage({
		id: "m",
		source: "alice",
		priority: 1,
		orderingKey: "",
		bytes,
		size,
		expiresAt: Number.POSITIVE_INFINITY,
		request: undefined,
		stored: undefined,
	});
}

test("however many recipients take all they can get, each has its share and another one finds as much", () => {
	fc.assert(
		fc.property(fc.integer({ min: 1, max: 100 }), fc.integer({ min: 10, max: 2000 }), (recipients, size) => {
			const memory = new MessageMemory(MAX_BYTES);
			const message = transient(size);
			const held = Array.from({ length: recipients }, () => 0);
			for (let full = 0; full < recipients; ) {
				full = 0;
				for (let at = 0; at < recipients; at++) {
					if (memory.hasRoom(held[at]!, message)) held[at]! += memory.hold(message, true);
					else full++;
				}
			}
			expect(memory.used).toBeLessThanOrEqual(MAX_BYTES);
			expect(memory.used).toBeGreaterThan(MAX_BYTES * 0.8);
			const cost = memoryCost(message);
			const share = Math.min(...held);
			expect(Math.max(...held) - share).toBeLessThanOrEqual(cost);
			let mine = 0;
			while (memory.hasRoom(mine, message)) mine += memory.hold(message, true);
			expect(mine).toBeGreaterThan(share / 16);
			for (const bytes of [...held, mine]) {
				for (let rest = bytes; rest > 0; rest -= cost) memory.hold(message, false);
			}
			expect(memory.used).toBe(0);
		}),
		{ numRuns: 50 },
	);
});

test("a recipient that has nothing may have a message of any size, and no other on top", () => {
	const memory = new MessageMemory(MAX_BYTES);
	const large = transient(2 * MAX_BYTES);
	expect(memory.hasRoom(0, large)).toBe(true);
	const held = memory.hold(large, true);
	expect(memory.hasRoom(held, transient(1))).toBe(false);
	expect(memory.hasRoom(0, transient(1))).toBe(true);
});

test("what waits keeps its own bytes, and not those that they lay beside", () => {
	const memory = new MessageMemory();
	const messages = Array.from({ length: 1000 }, (_, index) => {
		const message = transient(200);
		message.bytes = Buffer.alloc(64 * 1024, index).subarray(100, 300);
		memory.settleDown(message);
		return message;
	});
	expect(new Set(messages.map(({ bytes }) => bytes!.buffer)).size).toBe(4);
	for (const [index, { bytes }] of messages.entries()) expect(bytes).toEqual(Buffer.alloc(200, index));
});
