import { expect, it } from "vitest";
import { DELIVERY_FRAMES } from "../../src/rpc/messaging-frames.ts";
import { PulledStream } from "../../src/rpc/pulled-stream.ts";
import { MessagingRig } from "../harness/messaging-rig.ts";

it("makes one frame of what comes in together, over many turns of the microtask queue", async () => {
	using rig = new MessagingRig();
	const waiting: number[] = [];
	const stream = new PulledStream<unknown>({
		clock: rig.clock,
		call: rig.call("alice").call,
		streams: { open: () => ({ [Symbol.dispose]() {} }) },
		frames: DELIVERY_FRAMES,
		produce: () => (waiting.length === 0 ? undefined : waiting.splice(0)),
		onEnd: () => {},
	});
	const numbers = Array.from({ length: 20 }, (_, index) => index);
	const together = stream.next();
	for (const number of numbers) {
		waiting.push(number);
		stream.wake();
		await undefined;
	}
	expect((await together).value).toEqual(numbers);
	const alone = stream.next();
	waiting.push(20);
	stream.wake();
	expect((await alone).value).toEqual([20]);
	stream.finish();
	expect(await stream.next()).toEqual({ done: true, value: undefined });
});
