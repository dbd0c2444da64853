import fc from "fast-check";
import { expect, test } from "vitest";
import { gatherAll, gatherEnvelopes } from "../../src/rpc/gather-body.ts";
import { grpcFrame } from "../harness/raw-grpc.ts";

const MAX = 100;

async function* cut(bytes: Buffer, sizes: readonly number[]) {
	for (let at = 0, index = 0; at < bytes.byteLength; index++) {
		const size = sizes[index % sizes.length]!;
		yield bytes.subarray(at, at + size);
		at += size;
	}
}

const bodies = fc.record({
	messages: fc.array(fc.uint8Array({ maxLength: MAX }), { maxLength: 6 }),
	sizes: fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 5 }),
});

test("each chunk is one whole envelope, however the body came", async () => {
	await fc.assert(
		fc.asyncProperty(bodies, fc.nat(4), async ({ messages, sizes }, extra) => {
			const envelopes = messages.map((message) => grpcFrame(message));
			const rest = Buffer.alloc(extra);
			let held = -1;
			const given: Uint8Array[] = [];
			const body = cut(Buffer.concat([...envelopes, rest]), sizes);
			for await (const chunk of gatherEnvelopes(body, MAX, (bytes) => {
				held = bytes;
			}))
				given.push(chunk);
			const wanted = extra === 0 ? envelopes : [...envelopes, rest];
			expect(given.map((chunk) => Buffer.from(chunk))).toEqual(wanted.map((chunk) => Buffer.from(chunk)));
			expect(held).toBeLessThanOrEqual(extra);
		}),
	);
});

test("what is too large is handed on as it comes, and nothing of it is kept", async () => {
	const large = grpcFrame(new Uint8Array(MAX + 1));
	let most = 0;
	const given: Uint8Array[] = [];
	for await (const chunk of gatherEnvelopes(cut(large, [1]), MAX, (bytes) => {
		most = Math.max(most, bytes);
	})) {
		given.push(chunk);
	}
	expect(Buffer.concat(given)).toEqual(large);
	expect(most).toBeLessThanOrEqual(5);
	const bare: Uint8Array[] = [];
	for await (const chunk of gatherAll(cut(Buffer.alloc(3 * MAX), [1]), MAX, () => {})) bare.push(chunk);
	expect(bare[0]?.byteLength).toBe(MAX + 1);
});

test("a bare body is one chunk", async () => {
	const given: Uint8Array[] = [];
	for await (const chunk of gatherAll(cut(Buffer.alloc(MAX, 7), [1, 2]), MAX, () => {})) given.push(chunk);
	expect(given.map((chunk) => Buffer.from(chunk))).toEqual([Buffer.alloc(MAX, 7)]);
});
