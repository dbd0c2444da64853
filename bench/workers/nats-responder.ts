// Arguments: address of a NATS server. Gives the data of every request back.
import { connect } from "@nats-io/transport-node";
import { tell } from "./commands.ts";

process.on("SIGTERM", () => process.exit(0));
const connection = await connect({ servers: process.argv[2] });
connection.subscribe("bench.echo", {
	callback: (error, message) => {
		if (error) throw error;
		message.respond(message.data);
	},
});
await connection.flush();
tell({ ready: true });
