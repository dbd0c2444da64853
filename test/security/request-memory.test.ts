import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, it } from "vitest";
import { FrameReader } from "../../src/rpc/frame-reader.ts";
import { RequestStream } from "../../src/rpc/request-stream.ts";
import { describeHubs } from "../harness/hub.ts";
import { grpcFrame, rawCall } from "../harness/raw-grpc.ts";

const MIB = 1024 * 1024;

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

function held(): number {
	collect();
	const { heapUsed, arrayBuffers } = process.memoryUsage();
	return heapUsed + arrayBuffers;
}

/** The same once the buffers are freed, which happens beside the collection. */
async function heldInTheEnd(bound: number): Promise<number> {
	for (let left = 50; left > 0 && held() >= bound; left--) await new Promise((resolve) => setTimeout(resolve, 10));
	return held();
}

it("a message that comes byte by byte costs little more than its bytes", () => {
	const reader = new FrameReader(4 * MIB);
	const messages: Uint8Array[] = [];
	const take = (message: Uint8Array) => messages.push(message);
	const before = held();
	const message = Buffer.alloc(MIB, "abc");
	const frame = grpcFrame(message);
	for (let at = 0; at < frame.byteLength - 1; ) {
		// As the network gives it: many small pieces of one large read.
		const read = Buffer.alloc(64 * 1024);
		for (let piece = 0; piece < 6000 && at < frame.byteLength - 1; piece++, at++) {
			read[piece] = frame[at]!;
			reader.push(read.subarray(piece, piece + 1), take);
		}
	}
	expect(messages).toEqual([]);
	expect(held() - before - message.byteLength - frame.byteLength).toBeLessThan(4 * MIB);
	reader.push(frame.subarray(-1), take);
	expect(Buffer.compare(messages[0]!, message)).toBe(0);
	expect(reader.partial).toBe(false);
});

it("a reader that never quite catches up keeps nothing of what it has read", async () => {
	const source = { pause: () => {}, resume: () => {} };
	const requests = new RequestStream<number>(source, (message) => message.byteLength);
	const before = held();
	requests.push(Buffer.alloc(4096));
	for (let count = 0; count < 10_000; count++) {
		requests.push(Buffer.alloc(4096));
		expect(await requests.next()).toEqual({ done: false, value: 4096 });
	}
	expect((await heldInTheEnd(before + 8 * MIB)) - before).toBeLessThan(8 * MIB);
	await requests.return();
});

describeHubs("a registration without a credential", (start) => {
	it("is refused before its body is read", async () => {
		await using hub = await start();
		const outcome = await rawCall(hub.running.port, {
			path: "/qirvo.hub.v1.PluginService/Register",
			body: [grpcFrame(Buffer.alloc(1000), 0, MIB - 1)],
			open: true,
		});
		expect(outcome.grpcStatus).toBe("16");
		expect(outcome.reason).toBe("CREDENTIAL_MISSING");
	});
});
