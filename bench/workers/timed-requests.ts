import { pipelined, type SendCommand } from "./pipelined.ts";

/** Makes requests, each of which must be answered with its own number; `p50` is the median of their microseconds. */
export async function timedRequests(
	command: SendCommand,
	request: (number: number) => Promise<number>,
): Promise<{ readonly ms: number; readonly p50: number }> {
	const times = new Float64Array(command.count);
	let answered = 0;
	const ms = await pipelined(command, async (number) => {
		const start = performance.now();
		const reply = await request(number);
		times[answered++] = performance.now() - start;
		if (reply !== number) throw new Error(`request ${number} was answered with ${reply}`);
	});
	return { ms, p50: times.sort()[command.count >> 1]! * 1000 };
}
