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

test("what stays keeps little beside its own bytes, also where it is all that is left", () => {
	const sizes = fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 1000 });
	fc.assert(
		fc.property(sizes, fc.integer({ min: 1, max: 400 }), (all, every) => {
			const memory = new MessageMemory();
			const left: { readonly message: QueuedMessage; readonly content: Buffer }[] = [];
			for (const [index, size] of all.entries()) {
				const message = transient(size);
				message.bytes = Buffer.alloc(64 * 1024, index).subarray(100, 100 + size);
				memory.settleDown(message);
				if (index % every === 0) left.push({ message, content: Buffer.alloc(size, index) });
			}
			const buffers = new Set(left.map(({ message }) => message.bytes!.buffer));
			const kept = [...buffers].reduce((sum, { byteLength }) => sum + byteLength, 0);
			const own = left.reduce((sum, { content }) => sum + content.byteLength, 0);
			expect(kept).toBeLessThan(own + 1024 * left.length);
			for (const { message, content } of left) expect(message.bytes).toEqual(content);
		}),
	);
});

test("small messages that stay share buffers", () => {
	const memory = new MessageMemory();
	const messages = Array.from({ length: 1000 }, () => {
		const message = transient(200);
		message.bytes = Buffer.alloc(64 * 1024).subarray(100, 300);
		memory.settleDown(message);
		return message;
	});
	expect(new Set(messages.map(({ bytes }) => bytes!.buffer)).size).toBe(200);
});
