import { join } from "node:path";
import { expect, test } from "vitest";
import { HubProcess, TestFolder } from "../harness/hub-process.ts";
import { setOf } from "../harness/store-values.ts";
import { CrashStoreWriter, isGone } from "./crash-store-writer.ts";

const CYCLES = Number(process.env.STORE_CRASH_CYCLES ?? process.env.CRASH_CYCLES ?? 8);
const CYCLE_MS = 10_000;
/** Answers heard before the kill: from none to well under way. */
const MAX_HEARD = 300;

test(`a hub keeps what it wrote to stores through SIGKILL, all of a transaction or nothing, ${CYCLES} times`, {
	timeout: CYCLES * CYCLE_MS + CYCLE_MS,
}, async () => {
	using folder = new TestFolder();
	const data = join(folder.path, "data");
	const env = { NODE_COMPILE_CACHE: join(folder.path, "compiled") };
	const writers = [new CrashStoreWriter("writer0"), new CrashStoreWriter("writer1"), new CrashStoreWriter("writer2")];
	const tokens = new Map<string, string>();
	{
		await using hub = await HubProcess.start("embedded", data, { env });
		for (const writer of writers) {
			const clients = await hub.enrol(writer.id);
			tokens.set(writer.id, clients.token);
			await writer.prepare(clients);
		}
		const clients = hub.connect(tokens.get("writer0"));
		await clients.stores.createStore({ name: "volatile", config: { persistent: false } });
		await clients.stores.set({ set: setOf("volatile", "k", 1) });
	}
	for (let cycle = 0; ; cycle++) {
		await using hub = await HubProcess.start("embedded", data, { env });
		const clients = writers.map((writer) => hub.connect(tokens.get(writer.id)));
		// What need not outlive the process does not: no store, and no part of one.
		expect((await hub.operator.stores.listStores({})).stores.map(({ name }) => name)).not.toContain("volatile");
		for (const [index, writer] of writers.entries()) await writer.verify(clients[index]!);
		if (cycle === CYCLES) break;
		const enough = Math.floor(Math.random() * MAX_HEARD);
		let heard = 0;
		const crash = Promise.withResolvers<void>();
		const ended = Promise.allSettled(
			writers.map((writer, index) =>
				writer.write(clients[index]!, () => {
					if (++heard > enough) crash.resolve();
				}),
			),
		);
		await Promise.race([crash.promise, ended]);
		expect(await hub.kill()).toEqual({ code: null, signal: "SIGKILL" });
		for (const result of await ended) {
			expect(result.status === "rejected" && isGone(result.reason), String(heard)).toBe(true);
		}
	}
});
