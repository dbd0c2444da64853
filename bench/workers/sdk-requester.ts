// Arguments: address of a hub, token, its plugin id, the responder's. Takes { from, count, window }, answers { ms, p50 }.
import { answer } from "./commands.ts";
import { numberIn, payloadBytes } from "./payload.ts";
import type { SendCommand } from "./pipelined.ts";
import { connectPlugin } from "./plugin-client.ts";
import { timedRequests } from "./timed-requests.ts";

const [url, token, id, responder] = process.argv.slice(2) as [string, string, string, string];
const { messages } = await connectPlugin(url, token, id);

await answer<SendCommand>((command) =>
	timedRequests(command, async (number) => {
		const { data } = await messages.request<Uint8Array>(responder, "bench.echo", payloadBytes(number));
		return numberIn(data);
	}),
);
