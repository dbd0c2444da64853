import { expect, it } from "vitest";
import { describeHubs } from "../harness/hub.ts";

describeHubs("two plugins", (start) => {
	it("exchange an event and a request", async () => {
		await using hub = await start();
		const writer = await hub.enrol("writer");
		const reader = await hub.enrol("reader");

		const frames = reader.events.subscribe({ patterns: ["note.*"], limit: 1 })[Symbol.asyncIterator]();
		expect((await frames.next()).value?.frame.case).toBe("ready");
		const { id, position } = await writer.events.emit({
			event: { type: "note:written", payload: { body: { case: "json", value: '{"a":1}' } } },
		});
		const received = [];
		for (let next = await frames.next(); !next.done; next = await frames.next()) {
			if (next.value.frame.case === "batch") received.push(...next.value.frame.value.events);
		}
		expect(received).toHaveLength(1);
		expect(received[0]).toMatchObject({
			id,
			type: "note:written",
			source: "writer",
			sequence: position?.sequence,
			isReplay: false,
		});
	});
});
