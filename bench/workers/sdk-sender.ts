// Arguments: address of a hub, token, its plugin id, the recipient's. Takes { from, count, window }, answers { ms }.
import { answer } from "./commands.ts";
import { payloadBytes } from "./payload.ts";
import { pipelined, type SendCommand } from "./pipelined.ts";
import { connectPlugin } from "./plugin-client.ts";

const [url, token, id, recipient] = process.argv.slice(2) as [string, string, string, string];
const { messages } = await connectPlugin(url, token, id);

async function send(number: number): Promise<void> {
	const { duplicate } = await messages.send(recipient, "bench.work", payloadBytes(number), { durability: "durable" });
	if (duplicate) throw new Error("a message was sent before");
}

await answer<SendCommand>(async (command) => ({ ms: await pipelined(command, send) }));
