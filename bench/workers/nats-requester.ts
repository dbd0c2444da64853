// Arguments: address of a NATS server. Takes { from, count, window }, answers { ms, p50 }.
import { connect } from "@nats-io/transport-node";
import { answer } from "./commands.ts";
import { numberIn, payloadBytes } from "./payload.ts";
import type { SendCommand } from "./pipelined.ts";
import { timedRequests } from "./timed-requests.ts";

const connection = await connect({ servers: process.argv[2] });

await answer<SendCommand>((command) =>
	timedRequests(command, async (number) => {
		const { data } = await connection.request("bench.echo", payloadBytes(number), { timeout: 30_000 });
		return numberIn(data);
	}),
);
