// Arguments: address of a NATS server that has the work queue; `ids`: each message has one, so that a repeat is recognised.
// Takes { from, count, window }, answers { ms }.
import { jetstream } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { answer } from "./commands.ts";
import { payloadBytes } from "./payload.ts";
import { pipelined, type SendCommand } from "./pipelined.ts";
import { WORK_QUEUE } from "./work-queue.ts";

const client = jetstream(await connect({ servers: process.argv[2] }));
const named = process.argv[3] === "ids";
const publish = (number: number) => {
	const id = named ? { msgID: `bench-${number}` } : {};
	return client.publish(WORK_QUEUE.subject, payloadBytes(number), { timeout: 60_000, ...id });
};

await answer<SendCommand>(async (command) => ({ ms: await pipelined(command, publish) }));
