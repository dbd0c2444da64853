// Arguments: address of a hub, token. Takes { from, count, window }, answers { ms }. Events go one by one; the SDK makes
// the batches.
import { connect } from "../../src/client/index.ts";
import { answer } from "./commands.ts";
import { FILLER, paddedNumber } from "./payload.ts";
import { pipelined, type SendCommand } from "./pipelined.ts";

const [url, token] = process.argv.slice(2) as [string, string];
const { events } = await connect({ url, token });

async function emit(number: number): Promise<void> {
	const { duplicate } = await events.emit("bench.published", { n: paddedNumber(number), text: FILLER });
	if (duplicate) throw new Error("an event was stored before");
}

await answer<SendCommand>(async (command) => ({ ms: await pipelined(command, emit) }));
