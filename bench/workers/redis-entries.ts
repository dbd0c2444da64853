// Arguments: address of a Redis server. Takes { kind, from, count, window, batch }, answers { ms }.
import { Redis } from "ioredis";
import { answerRounds, checkValue, type EntryCommand, keyOf } from "./entry-rounds.ts";
import { payloadOf } from "./payload.ts";
import { pipelined } from "./pipelined.ts";
import { Window } from "./window.ts";

// It writes commands without waiting for answers: that is the pipeline. Gathering them into batches by itself makes it slower.
const redis = new Redis(`redis://${process.argv[2]}`);
await redis.ping();

const set = (number: number) => redis.set(keyOf(number), payloadOf(number));

async function get(number: number): Promise<void> {
	checkValue(await redis.get(keyOf(number)), number);
}

/** In batches, each of which is sent and answered as one. */
async function batched({ kind, from, count, window: size, batch }: EntryCommand): Promise<number> {
	const window = new Window(size / batch);
	const last = Promise.withResolvers<void>();
	let answered = 0;
	const send = async (first: number) => {
		const pipeline = redis.pipeline();
		const end = Math.min(first + batch, from + count);
		for (let number = first; number < end; number++) {
			if (kind === "set") pipeline.set(keyOf(number), payloadOf(number));
			else pipeline.get(keyOf(number));
		}
		const results = await pipeline.exec();
		for (const [index, [error, value]] of results!.entries()) {
			if (error) throw error;
			if (kind === "get") checkValue(value as string, first + index);
		}
		window.leave();
		answered += end - first;
		if (answered === count) last.resolve();
	};
	const start = performance.now();
	for (let first = from; first < from + count; first += batch) {
		const room = window.enter();
		if (room) await room;
		send(first).catch(last.reject);
	}
	await last.promise;
	return performance.now() - start;
}

await answerRounds((command) =>
	command.batch > 1 ? batched(command) : pipelined(command, command.kind === "set" ? set : get),
);
