import { expect, it } from "vitest";
import { describeHubs } from "../harness/hub.ts";

describeHubs("metrics", (start) => {
	it("count calls, events and messages, without a label that a caller chooses", async () => {
		await using hub = await start();
		const writer = await hub.enrol("metrics-writer");
		await writer.events.emit({ event: { type: "metrics.kept" } });
		await expect(writer.events.emit({ event: { type: "a..b" } })).rejects.toThrow("event.type");
		const text = await (await fetch(`${hub.url}/metrics`, { headers: { connection: "close" } })).text();
		const lane = text.includes('lane="fast",code="OK"') ? "fast" : "connect";
		const emit = `hub_rpc_calls_total{method="/qirvo.hub.v1.EventService/Emit",lane="${lane}",code=`;
		expect(text).toContain(`${emit}"OK"} 1`);
		expect(text).toContain(`${emit}"INVALID_ARGUMENT"} 1`);
		expect(text).toMatch(/^hub_plugins 1$/m);
		expect(text).toMatch(/^# TYPE hub_events_total counter$/m);
		expect(text).toMatch(/^hub_messages_refused_full_total 0$/m);
		expect(text).not.toContain("metrics-writer");
		expect(text).not.toContain("metrics.kept");
	});
});
