/** Ends the iteration when the signal aborts, even while it waits. */
export async function* untilAborted<T>(items: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T> {
	const iterator = items[Symbol.asyncIterator]();
	const aborted = new Promise<undefined>((resolve) =>
		signal.addEventListener("abort", () => resolve(undefined), { once: true }),
	);
	while (!signal.aborted) {
		const next = await Promise.race([iterator.next(), aborted]);
		if (next === undefined || next.done) return;
		yield next.value;
	}
}
