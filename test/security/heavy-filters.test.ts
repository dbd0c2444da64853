import { expect, it } from "vitest";
import { TestHub, until } from "../harness/hub.ts";

const SUBSCRIPTIONS = 100;
const FILTER = "event.data.exists(x, event.data.exists(y, string(x) == 'q'))";

// One evaluation takes some milliseconds; every subscription makes one for the same event.
it("many filters on one event leave turns to others", async () => {
	await using hub = await TestHub.start();
	const plugin = await hub.enrol("heavy");
	const controller = new AbortController();
	const streams = await Promise.all(
		Array.from({ length: SUBSCRIPTIONS }, async () => {
			const request = { patterns: ["heavy"], filter: FILTER };
			const frames = plugin.events.subscribe(request, { signal: controller.signal })[Symbol.asyncIterator]();
			for (const first of ["ready", "caughtUp"]) expect((await frames.next()).value?.frame.case).toBe(first);
			return frames;
		}),
	);
	let longest = 0;
	let total = 0;
	let last = performance.now();
	let watching = true;
	const watch = () => {
		const now = performance.now();
		longest = Math.max(longest, now - last);
		last = now;
		if (watching) setImmediate(watch);
	};
	watch();
	const began = performance.now();
	const value = JSON.stringify(Array.from({ length: 80 }, (_, index) => index + 0.5));
	await plugin.events.emit({ event: { type: "heavy", payload: { body: { case: "json", value } } } });
	await until(
		async () => {
			const { subscriptions } = await hub.operator.events.listSubscriptions({ pageSize: 500 });
			return subscriptions.every((each) => each.lag === 0n);
		},
		{ ms: 15_000 },
	);
	total = performance.now() - began;
	watching = false;
	controller.abort();
	await Promise.allSettled(streams.map((frames) => frames.next()));
	// Without turns for others the longest pause is nearly all of the time that the filters take.
	expect(longest).toBeLessThan(total / 4);
});
