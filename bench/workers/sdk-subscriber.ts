// Arguments: address of a hub, token, events in a round. Prints { ms } after each round.
import { connect } from "../../src/client/index.ts";
import { tell } from "./commands.ts";
import { Arrivals } from "./payload.ts";

process.on("SIGTERM", () => process.exit(0));
const [url, token, round] = process.argv.slice(2) as [string, string, string];
const arrivals = new Arrivals(Number(round), (ms) => tell({ ms }));
const { events } = await connect({ url, token });
const fail = (error: unknown) => {
	console.error(error);
	process.exit(1);
};
await events.on("bench.published", (event) => arrivals.take(event.json ?? ""), { onError: fail });
tell({ ready: true });
