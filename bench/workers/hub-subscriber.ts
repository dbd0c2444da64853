// Arguments: address of a hub, token, events in a round. Prints { ms } after each round.
import { tell } from "./commands.ts";
import { eventClient, headersOf } from "./hub-client.ts";
import { Arrivals } from "./payload.ts";

process.on("SIGTERM", () => process.exit(0));
const [url, token, round] = process.argv.slice(2) as [string, string, string];
const arrivals = new Arrivals(Number(round), (ms) => tell({ ms }));
const frames = eventClient(url).subscribe({ patterns: ["bench.published"] }, headersOf(token));
for await (const { frame } of frames) {
	if (frame.case === "caughtUp") tell({ ready: true });
	if (frame.case !== "batch") continue;
	for (const { payload } of frame.value.events) {
		if (payload?.body.case !== "json") throw new Error("an event came without its payload");
		arrivals.take(payload.body.value);
	}
}
throw new Error("the subscription ended");
