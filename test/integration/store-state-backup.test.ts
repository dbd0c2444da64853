import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { restoreHub } from "../../src/server/restore-hub.ts";
import { failureOf } from "../harness/failure.ts";
import { type Clients, TestHub } from "../harness/hub.ts";
import { contents, expects, setOf } from "../harness/store-values.ts";

let folder: string;
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), "hub-test-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const start = (name: string) => TestHub.start({ directory: join(folder, name), options: { state: "embedded" } });

async function takeBackup({ hub }: Clients): Promise<string> {
	const chunks: Uint8Array[] = [];
	for await (const { frame } of hub.backupState({})) if (frame.case === "chunk") chunks.push(frame.value);
	const file = join(folder, "backup");
	writeFileSync(file, Buffer.concat(chunks));
	return file;
}

it("stores come back as they were at one moment, and no revision of theirs stands for two writes", async () => {
	const validators = [{ name: "number", rule: { case: "jsonSchema", value: '{"type":"integer"}' } as const }];
	let token = "";
	let file = "";
	let position: { epoch: string; sequence: bigint } | undefined;
	let lateRevision: bigint | undefined;
	{
		await using hub = await start("data");
		const { stores, token: own } = await hub.enrol("plugin");
		token = own;
		await stores.createStore({ name: "kept", config: { validators, history: 4 } });
		await stores.createStore({ name: "other" });
		await stores.createStore({ name: "passing", config: { persistent: false } });
		await stores.set({ set: setOf("passing", "k", 1) });
		let going = true;
		const writers = Array.from({ length: 4 }, async (_, writer) => {
			for (let round = 1; going; round++) {
				const [one, two] = [setOf("kept", `left${writer}`, round), setOf("other", `right${writer}`, round)];
				await stores.transact({
					writes: [{ write: { case: "set", value: one } }, { write: { case: "set", value: two } }],
				});
			}
		});
		await stores.set({ set: setOf("kept", "first", 1) });
		file = await takeBackup(hub.operator);
		going = false;
		await Promise.all(writers);
		const late = await stores.set({ set: setOf("kept", "late", 1) });
		lateRevision = late.result?.revision;
		position = (await stores.list({ store: "kept" })).position;
	}

	expect((await restoreHub(file, join(folder, "restored"))).entries).toBeGreaterThan(10);
	await using hub = await start("restored");
	const { stores } = hub.connect(token);
	const left = contents((await stores.list({ store: "kept" })).entries);
	const right = contents((await stores.list({ store: "other" })).entries);
	expect(left).toMatchObject({ first: 1 });
	expect(left).not.toHaveProperty("late");
	for (const writer of [0, 1, 2, 3]) expect(left[`left${writer}`]).toBe(right[`right${writer}`]);
	const { store } = await stores.getStore({ name: "kept" });
	expect(store?.usage?.keys).toBe(BigInt(Object.keys(left).length));
	expect(await failureOf(stores.getStore({ name: "passing" }))).toMatchObject({ reason: "STORE_NOT_FOUND" });

	expect(await failureOf(stores.set({ set: setOf("kept", "x", "text") }))).toMatchObject({
		reason: "VALIDATION_FAILED",
		metadata: { validator: "number", path: "", rule: "type integer" },
	});
	await stores.set({ set: setOf("kept", "late", 2) });
	const stale = setOf("kept", "late", 3, { expected: expects.revision(lateRevision!) });
	expect(await failureOf(stores.set({ set: stale }))).toMatchObject({ reason: "REVISION_MISMATCH" });
	const watched: unknown[] = [];
	const watch = { watchId: "w", store: "kept", start: { case: "after", value: position! } as const };
	for await (const { frame } of stores.watch({ watches: [watch] })) {
		watched.push(frame.case === "ended" ? frame.value.error?.reason : frame.case);
	}
	expect(watched).toContain("POSITION_TRIMMED");
	expect(watched).not.toContain("batch");
});
