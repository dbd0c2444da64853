import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FrameReader } from "../../src/rpc/frame-reader.ts";
import { grpcFrame } from "../harness/raw-grpc.ts";

const MAX = 100;

/** Cuts `bytes` at the given places. */
function cutAt(bytes: Buffer, places: readonly number[]): Buffer[] {
	const sorted = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
	return [0, ...sorted].map((start, index) => bytes.subarray(start, sorted[index] ?? bytes.length));
}

describe("the frame reader", () => {
	it("gives the same messages however the network cuts them", () => {
		fc.assert(
			fc.property(
				fc.array(fc.uint8Array({ maxLength: MAX })),
				fc.array(fc.nat(), { maxLength: 40 }),
				fc.uint8Array({ maxLength: 4 }),
				(messages, places, rest) => {
					const reader = new FrameReader(MAX);
					const wire = Buffer.concat([...messages.map((message) => grpcFrame(message)), rest]);
					const taken: Uint8Array[] = [];
					for (const chunk of cutAt(wire, places)) reader.push(chunk, (message) => taken.push(message));
					expect(taken.map((each) => Buffer.from(each).toString("hex"))).toEqual(
						messages.map((each) => Buffer.from(each).toString("hex")),
					);
					expect(reader.partial).toBe(rest.length > 0);
				},
			),
		);
	});

	it("refuses a length beyond its cap as soon as the prefix is there, wherever it is", () => {
		fc.assert(
			fc.property(
				fc.array(fc.uint8Array({ maxLength: MAX }), { maxLength: 5 }),
				fc.integer({ min: MAX + 1, max: 0xffffffff }),
				fc.array(fc.nat(), { maxLength: 10 }),
				(before, declared, places) => {
					const reader = new FrameReader(MAX);
					const wire = Buffer.concat([
						...before.map((each) => grpcFrame(each)),
						grpcFrame(new Uint8Array(), 0, declared),
					]);
					let taken = 0;
					expect(() => {
						for (const chunk of cutAt(wire, places)) reader.push(chunk, () => taken++);
					}).toThrow(expect.objectContaining({ reason: "MESSAGE_TOO_LARGE" }));
					expect(taken).toBe(before.length);
				},
			),
		);
	});

	it("does not keep a network read alive with one small message of it", () => {
		const read = Buffer.alloc(64 * 1024);
		read.set(grpcFrame(Buffer.from("small")));
		let message: Uint8Array | undefined;
		new FrameReader(MAX).push(read.subarray(0, 10), (each) => {
			message = each;
		});
		expect(message?.buffer).not.toBe(read.buffer);
		expect(Buffer.from(message!).toString()).toBe("small");
	});
});
