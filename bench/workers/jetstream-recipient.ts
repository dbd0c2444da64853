// Arguments: address of a NATS server, messages in a round, messages that may be unacknowledged. Makes the work queue, and
// prints { ms } after each round, once the server has let go of every message.
import { setTimeout } from "node:timers/promises";
import { AckPolicy, jetstream, jetstreamManager, RetentionPolicy, StorageType } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { tell } from "./commands.ts";
import { Arrivals, numberIn } from "./payload.ts";
import { WORK_QUEUE } from "./work-queue.ts";

process.on("SIGTERM", () => process.exit(0));
const [servers, round, window] = process.argv.slice(2) as [string, string, string];
const { stream, subject, consumer: name } = WORK_QUEUE;
const connection = await connect({ servers });
const manager = await jetstreamManager(connection);
await manager.streams.add({
	name: stream,
	subjects: [subject],
	retention: RetentionPolicy.Workqueue,
	storage: StorageType.File,
	num_replicas: 1,
});
await manager.consumers.add(stream, {
	durable_name: name,
	ack_policy: AckPolicy.Explicit,
	max_ack_pending: Number(window),
});
const arrivals = new Arrivals(Number(round), async (ms) => {
	const last = performance.now();
	while ((await manager.streams.info(stream)).state.messages > 0) await setTimeout(1);
	tell({ ms: ms + performance.now() - last });
});
const consumer = await jetstream(connection).consumers.get(stream, name);
await consumer.consume({
	max_messages: Number(window),
	callback: (message) => {
		arrivals.takeNumber(numberIn(message.data));
		message.ack();
	},
});
tell({ ready: true });
