import { expect, it } from "vitest";
import { openEveryStream } from "../harness/every-stream.ts";
import { describeHubs } from "../harness/hub.ts";
import { SkippingClock, UNHURRIED } from "../harness/skipping-clock.ts";

describeHubs("a stream on which nothing happens", (start) => {
	it("says that it is alive as often as it promised", async () => {
		const clock = new SkippingClock();
		await using hub = await start({ clock, options: UNHURRIED });
		const { feeds } = await openEveryStream(await hub.enrol("plugin"), ["a.b"]);
		for (const count of [1, 2]) {
			clock.skip(15_000);
			for (const [kind, feed] of Object.entries(feeds)) {
				await feed.when(() => feed.cases.filter((frame) => frame === "heartbeat").length >= count);
				const ready = feed.frames[0]!.frame;
				expect([kind, ready.case === "ready" && ready.value.heartbeatInterval?.seconds]).toEqual([kind, 15n]);
			}
		}
		for (const [kind, feed] of Object.entries(feeds)) expect([kind, feed.done]).toEqual([kind, false]);
	});
});
