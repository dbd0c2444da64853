// Arguments: address of a hub, token, plugin id. Takes { kind, from, count, window }, answers { ms }.
import { answerRounds, checkValue, keyOf, STORE } from "./entry-rounds.ts";
import { payloadBytes } from "./payload.ts";
import { pipelined } from "./pipelined.ts";
import { connectPlugin } from "./plugin-client.ts";

const [url, token, id] = process.argv.slice(2) as [string, string, string];
const client = await connectPlugin(url, token, id);
await client.stores.create(STORE);
const store = client.store<Uint8Array>(STORE);

const set = (number: number) => store.set(keyOf(number), payloadBytes(number));

async function get(number: number): Promise<void> {
	checkValue((await store.get(keyOf(number)))?.value, number);
}

await answerRounds((command) => pipelined(command, command.kind === "set" ? set : get));
