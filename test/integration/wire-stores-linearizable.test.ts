import { ConnectError } from "@connectrpc/connect";
import { expect, it } from "vitest";
import { ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.js";
import { type Clients, describeHubs } from "../harness/hub.ts";
import { isLinearizable, type RegisterOperation } from "../harness/linearizable.ts";
import { expects, parsed, setOf } from "../harness/store-values.ts";

const CLIENTS = 6;
const OPERATIONS = 60;
const KEYS = ["a", "b", "c"];

describeHubs("entries under concurrent clients", (start) => {
	it("take effect one after the other, each between its call and its answer", async () => {
		await using hub = await start();
		const owner = await hub.enrol("owner");
		const others = await Promise.all(Array.from({ length: CLIENTS }, (_, index) => hub.enrol(`client-${index}`)));
		for (const persistent of [true, false]) {
			const name = persistent ? "s" : "v";
			const access = { plugins: ["*"] };
			await owner.stores.createStore({ name, config: { persistent, read: access, write: access } });
			const history = new Map(KEYS.map((key) => [key, [] as RegisterOperation[]]));
			await Promise.all(others.map((clients, index) => runClient(clients, index, name, history)));
			for (const [key, operations] of history) {
				expect(operations.length).toBeGreaterThan(OPERATIONS);
				expect([key, isLinearizable(operations)]).toEqual([key, true]);
			}
		}
	});
});

describeHubs("the checker", () => {
	it("finds a read of what was not there, and a lost write", () => {
		const write = (value: number, from: number, to: number): RegisterOperation => ({ kind: "write", value, from, to });
		const read = (value: number | undefined, from: number, to: number): RegisterOperation => ({
			kind: "read",
			value,
			from,
			to,
		});
		expect(isLinearizable([write(1, 0, 2), read(undefined, 1, 3), read(1, 4, 5)])).toBe(true);
		expect(isLinearizable([write(1, 0, 1), read(undefined, 2, 3)])).toBe(false);
		expect(isLinearizable([write(1, 0, 3), read(1, 1, 2), read(undefined, 2.5, 2.7)])).toBe(false);
		expect(isLinearizable([write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)])).toBe(false);
		const swap = (before: number | undefined, value: number, from: number, to: number): RegisterOperation => ({
			kind: "swap",
			before,
			value,
			from,
			to,
		});
		expect(isLinearizable([swap(undefined, 1, 0, 3), swap(undefined, 2, 1, 2)])).toBe(false);
		expect(isLinearizable([swap(undefined, 1, 0, 3), swap(1, 2, 1, 2)])).toBe(true);
	});
});

async function runClient(
	{ stores }: Clients,
	index: number,
	store: string,
	history: ReadonlyMap<string, RegisterOperation[]>,
): Promise<void> {
	const known = new Map<string, { readonly value: number; readonly revision: bigint }>();
	for (let round = 0; round < OPERATIONS; round++) {
		const key = KEYS[(round * 7 + index) % KEYS.length]!;
		const value = index * 1000 + round;
		const from = performance.now();
		const note = (operation: Omit<RegisterOperation, "from" | "to">) =>
			history.get(key)!.push({ ...operation, from, to: performance.now() });
		const seen = known.get(key);
		switch ((round + index) % 4) {
			case 0: {
				await stores.set({ set: setOf(store, key, value) });
				note({ kind: "write", value });
				break;
			}
			case 1: {
				// What the entry must be is what was read; its revision stands for the value.
				if (seen === undefined) break;
				const expected = expects.revision(seen.revision);
				const reason = await stores
					.set({ set: setOf(store, key, value, { expected }) })
					.then(() => undefined, reasonOf);
				if (reason === undefined) note({ kind: "swap", before: seen.value, value });
				else expect(reason).toBe("REVISION_MISMATCH");
				known.delete(key);
				break;
			}
			case 2: {
				if (round % 10 === 0) {
					await stores.delete({ delete: { store, key } });
					note({ kind: "write", value: undefined });
					break;
				}
				const expected = expects.absent;
				const reason = await stores
					.set({ set: setOf(store, key, value, { expected }) })
					.then(() => undefined, reasonOf);
				if (reason === undefined) note({ kind: "swap", before: undefined, value });
				else expect(reason).toBe("REVISION_MISMATCH");
				break;
			}
			default: {
				const entry = await stores.get({ store, key }).then(
					(answer) => answer.entry,
					(error: unknown) => void expect(reasonOf(error)).toBe("ENTRY_NOT_FOUND"),
				);
				const read = entry && (parsed(entry.value) as number);
				note({ kind: "read", value: read });
				if (entry !== undefined) known.set(key, { value: read!, revision: entry.revision });
			}
		}
	}
}

function reasonOf(error: unknown): string | undefined {
	return ConnectError.from(error).findDetails(ErrorInfoSchema)[0]?.reason;
}
