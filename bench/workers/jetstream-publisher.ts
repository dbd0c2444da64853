// Arguments: address of a NATS server. Takes { from, count, window, batch }, answers { ms }.
import { jetstream, jetstreamManager, StorageType } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { answer } from "./commands.ts";
import { payloadOf } from "./payload.ts";
import { pipelined, type SendCommand } from "./pipelined.ts";
import { Window } from "./window.ts";

const STREAM = "bench";
const SUBJECT = "bench.published";

const connection = await connect({ servers: process.argv[2] });
const manager = await jetstreamManager(connection);
await manager.streams.add({
	name: STREAM,
	subjects: [SUBJECT],
	storage: StorageType.File,
	num_replicas: 1,
	allow_atomic: true,
});
const client = jetstream(connection);

const publish = (number: number) => client.publish(SUBJECT, payloadOf(number), { timeout: 60_000 });

/** In atomic batches of up to `batch`, `size` of them uncommitted. */
async function batched(from: number, count: number, size: number, batch: number): Promise<void> {
	const window = new Window(size);
	const last = Promise.withResolvers<void>();
	let stored = 0;
	const send = async (first: number, end: number) => {
		const open = await client.startBatch(SUBJECT, payloadOf(first));
		for (let number = first + 1; number < end - 1; number++) open.add(SUBJECT, payloadOf(number));
		const { count: committed } = await open.commit(SUBJECT, payloadOf(end - 1), { timeout: 60_000 });
		window.leave();
		stored += committed;
		if (stored === count) last.resolve();
	};
	for (let first = from; first < from + count; first += batch) {
		const room = window.enter();
		if (room) await room;
		send(first, Math.min(first + batch, from + count)).catch(last.reject);
	}
	await last.promise;
}

await answer<SendCommand & { readonly batch: number }>(async ({ from, count, window, batch }) => {
	const start = performance.now();
	await (batch === 1 ? pipelined({ from, count, window }, publish) : batched(from, count, window, batch));
	const ms = performance.now() - start;
	const { state } = await manager.streams.info(STREAM);
	if (state.messages !== from + count) throw new Error(`the stream has ${state.messages} messages of ${from + count}`);
	return { ms };
});
