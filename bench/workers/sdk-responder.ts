// Arguments: address of a hub, token, its plugin id. Gives the data of every request back.
import { tell } from "./commands.ts";
import { connectPlugin } from "./plugin-client.ts";

process.on("SIGTERM", () => process.exit(0));
const [url, token, id] = process.argv.slice(2) as [string, string, string];
const { messages } = await connectPlugin(url, token, id);
await messages.handle("bench.echo", (request) => request.data).ready;
tell({ ready: true });
