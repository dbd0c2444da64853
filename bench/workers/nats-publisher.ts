// Arguments: address of a NATS server. Takes { from, count, batch }, answers { ms }. Two batches are under way at most.
import { connect } from "@nats-io/transport-node";
import { answer } from "./commands.ts";
import { payloadOf } from "./payload.ts";

const connection = await connect({ servers: process.argv[2] });

await answer<{ from: number; count: number; batch: number }>(async ({ from, count, batch }) => {
	const start = performance.now();
	let flushed: Promise<void> = Promise.resolve();
	for (let first = from; first < from + count; first += batch) {
		const end = Math.min(first + batch, from + count);
		for (let number = first; number < end; number++) connection.publish("bench.live", payloadOf(number));
		const flushing = connection.flush();
		await flushed;
		flushed = flushing;
	}
	await flushed;
	return { ms: performance.now() - start };
});
