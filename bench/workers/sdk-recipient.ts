// Arguments: address of a hub, token, its plugin id, messages in a round, messages that may be unacknowledged. Prints
// { ms } after each round, once every acknowledgement is stored.
import { setTimeout } from "node:timers/promises";
import { tell } from "./commands.ts";
import { Arrivals, numberIn } from "./payload.ts";
import { connectPlugin } from "./plugin-client.ts";

process.on("SIGTERM", () => process.exit(0));
const [url, token, id, round, window] = process.argv.slice(2) as [string, string, string, string, string];
const { messages } = await connectPlugin(url, token, id, Number(window));
const arrivals = new Arrivals(Number(round), async (ms) => {
	const last = performance.now();
	while ((await unsettled()) > 0) await setTimeout(1);
	tell({ ms: ms + performance.now() - last });
});
await messages.handle<Uint8Array>("bench.work", (message) => arrivals.takeNumber(numberIn(message.data))).ready;
tell({ ready: true });

/** Durable messages that the hub has and that are not settled. */
async function unsettled(): Promise<number> {
	const metrics = await (await fetch(new URL("/metrics", url))).text();
	const [, value] = /^hub_durable_messages (\d+)$/m.exec(metrics) ?? [];
	if (value === undefined) throw new Error("the hub does not count durable messages");
	return Number(value);
}
