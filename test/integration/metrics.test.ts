import { expect, it } from "vitest";
import { describeHubs } from "../harness/hub.ts";
import { setOf } from "../harness/store-values.ts";

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

	it("show single stores to operators alone, a hundred of them, and count no refusals for want of a right", async () => {
		await using hub = await start();
		const { stores } = await hub.enrol("owner");
		const spy = await hub.enrol("spy");
		const read = async (token: string): Promise<string> => {
			const headers = { connection: "close", ...(token !== "" && { authorization: `Bearer ${token}` }) };
			return await (await fetch(`${hub.url}/metrics`, { headers })).text();
		};
		await stores.createStore({ name: "secret" });
		await stores.set({ set: setOf("secret", "k", 1) });
		await stores.get({ store: "secret", key: "k" });
		const shown = await read(hub.operator.token);
		expect(shown).toMatch(/^hub_one_store_keys\{store="secret"\} 1$/m);
		expect(shown).toMatch(/^hub_one_store_gets_total\{store="secret"\} 1$/m);
		await expect(spy.stores.get({ store: "secret", key: "k" })).rejects.toThrow("there is no store");
		expect(await read(hub.operator.token)).toMatch(/^hub_one_store_gets_total\{store="secret"\} 1$/m);
		for (const token of ["", spy.token]) {
			const open = await read(token);
			expect(open).toMatch(/^hub_store_gets_total 1$/m);
			expect(open).toMatch(/^hub_stores 1$/m);
			expect(open).not.toContain("secret");
		}
		const other = await hub.enrol("other");
		for (let index = 0; index < 110; index++) {
			const owner = index < 90 ? stores : other.stores;
			await owner.createStore({ name: `s-${index}`, config: { persistent: false } });
		}
		const series = async () =>
			(await read(hub.operator.token)).split("\n").filter((line) => line.startsWith("hub_one_store_keys{"));
		expect(await series()).toHaveLength(100);
		await stores.deleteStore({ name: "secret" });
		expect(await series()).toHaveLength(100);
		// What a store that is gone had counted stays in the totals.
		expect(await read("")).toMatch(/^hub_store_gets_total 1$/m);
	});
});
