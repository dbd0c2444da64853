// Arguments: address of a NATS server, messages in a round. Prints { ms } after each round.
import { connect } from "@nats-io/transport-node";
import { tell } from "./commands.ts";
import { Arrivals } from "./payload.ts";

process.on("SIGTERM", () => process.exit(0));
const connection = await connect({ servers: process.argv[2] });
const arrivals = new Arrivals(Number(process.argv[3]), (ms) => tell({ ms }));
connection.subscribe("bench.live", {
	callback: (error, message) => {
		if (error) throw error;
		arrivals.take(message.string());
	},
});
await connection.flush();
tell({ ready: true });
