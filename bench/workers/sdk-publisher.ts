// Arguments: address of a hub, token. Takes { from, count, window }, answers { ms }. Events go one by one; the SDK makes
// the batches.
import { connect } from "../../src/client/index.ts";
import { answer } from "./commands.ts";
import { FILLER, paddedNumber } from "./payload.ts";
import { Window } from "./window.ts";

const [url, token] = process.argv.slice(2) as [string, string];
const { events } = await connect({ url, token });

await answer<{ from: number; count: number; window: number }>(async ({ from, count, window: size }) => {
	const window = new Window(size);
	const last = Promise.withResolvers<void>();
	let stored = 0;
	const start = performance.now();
	for (let number = from; number < from + count; number++) {
		const room = window.enter();
		if (room) await room;
		events.emit("bench.published", { n: paddedNumber(number), text: FILLER }).then(({ duplicate }) => {
			if (duplicate) last.reject(new Error("an event was stored before"));
			window.leave();
			if (++stored === count) last.resolve();
		}, last.reject);
	}
	await last.promise;
	return { ms: performance.now() - start };
});
