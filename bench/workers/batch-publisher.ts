// Arguments: address of a hub, token. Takes { from, count, window, batch }, answers { ms }.
import { answer } from "./commands.ts";
import { eventClient, headersOf } from "./hub-client.ts";
import { payloadOf } from "./payload.ts";
import { Window } from "./window.ts";

const [url, token] = process.argv.slice(2) as [string, string];
const client = eventClient(url);

async function* requests(from: number, count: number, batch: number, window: Window) {
	for (let first = from; first < from + count; first += batch) {
		const room = window.enter();
		if (room) await room;
		const length = Math.min(batch, from + count - first);
		const events = Array.from({ length }, (_, index) => ({
			type: "bench.published",
			payload: { body: { case: "json" as const, value: payloadOf(first + index) } },
		}));
		yield { batchId: BigInt(first), events };
	}
}

interface Command {
	readonly from: number;
	readonly count: number;
	/** Batches that are not acknowledged yet. */
	readonly window: number;
	readonly batch: number;
}

await answer<Command>(async ({ from, count, window: size, batch }) => {
	const window = new Window(size);
	let stored = 0;
	const start = performance.now();
	for await (const { frame } of client.emitStream(requests(from, count, batch, window), headersOf(token))) {
		if (frame.case !== "acknowledgement") continue;
		if (frame.value.exceptions.length > 0) throw new Error("the hub refused an event");
		stored += frame.value.stored;
		window.leave();
		if (stored === count) break;
	}
	const ms = performance.now() - start;
	if (stored !== count) throw new Error(`the hub stored ${stored} events of ${count}`);
	return { ms };
});
