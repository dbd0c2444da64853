import type { MessageInitShape } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import { expect } from "vitest";
import type {
	PipelineOperationSchema,
	PipelineRequestSchema,
	TransactionWriteSchema,
} from "#gen/qirvo/hub/v1/entries_pb.js";
import { failureFrom } from "../harness/failure.ts";
import type { Clients } from "../harness/hub.ts";
import { Outbox } from "../harness/outbox.ts";
import { contents, setOf } from "../harness/store-values.ts";

type Up = MessageInitShape<typeof PipelineRequestSchema>;
type Operation = MessageInitShape<typeof PipelineOperationSchema>["operation"];
type Write = MessageInitShape<typeof TransactionWriteSchema>;

/** Transactions in flight at once. */
const IN_FLIGHT = 32;
/** Keys of each store that a transaction writes, all with its own number. */
const KEYS = ["first", "second"];
const SLOTS = 8;

/**
 * A plugin whose transactions write the same number to two keys of each of two stores and add to a counter. Outside the hub it
 * keeps what it sent and what it was told.
 */
export class CrashStoreWriter {
	readonly id: string;
	readonly #stores: readonly string[];
	#sent = 0;
	#told = 0;
	/** The highest number sent and told for a slot. */
	readonly #slots = Array.from({ length: SLOTS }, () => ({ sent: 0, told: 0 }));
	/** What the counter may be: at least what was told, at most what was sent. */
	#counted = { least: 0, most: 0 };

	constructor(id: string) {
		this.id = id;
		this.#stores = [`${id}.one`, `${id}.two`];
	}

	async prepare({ stores }: Clients): Promise<void> {
		for (const name of this.#stores) await stores.createStore({ name, config: { history: 2 } });
	}

	/** Writes until the hub is gone, which rejects. */
	async write({ stores }: Clients, heard: () => void): Promise<void> {
		const up = new Outbox<Up>();
		const send = () =>
			up.push({ operations: [{ id: BigInt(++this.#sent), operation: this.#transaction(this.#sent) }] });
		for (let index = 0; index < IN_FLIGHT; index++) send();
		for await (const { frame } of stores.pipeline(up)) {
			if (frame.case !== "results") continue;
			for (const { id, result } of frame.value.results) {
				if (result.case !== "transaction") throw new Error(`not written: ${JSON.stringify(result.value)}`);
				const slot = this.#slots[Number(id) % SLOTS]!;
				slot.told = Math.max(slot.told, Number(id));
				this.#told++;
				this.#counted.least++;
				heard();
				send();
			}
		}
	}

	/** Compares the stores with the ledger: nothing told is lost, nothing is there that was not sent, nothing is half done. */
	async verify({ stores }: Clients): Promise<void> {
		const found = new Map<string, Record<string, unknown>>();
		for (const store of this.#stores) {
			const page = await stores.list({ store, pageSize: 1000 });
			found.set(store, contents(page.entries));
			const usage = (await stores.getStore({ name: store })).store?.usage;
			expect(usage?.keys).toBe(BigInt(page.entries.length));
		}
		let there = 0;
		for (const [slot, { sent, told }] of this.#slots.entries()) {
			const values = this.#stores.flatMap((store) => KEYS.map((key) => found.get(store)![`${key}/${slot}`]));
			expect(new Set(values).size).toBe(1);
			const value = (values[0] ?? 0) as number;
			expect(value).toBeGreaterThanOrEqual(told);
			expect(value).toBeLessThanOrEqual(sent);
			if (value > 0) expect(value % SLOTS).toBe(slot);
			there = Math.max(there, value);
			this.#slots[slot] = { sent, told: value };
		}
		const counter = (found.get(this.#stores[0]!)!.counter ?? 0) as number;
		expect(counter).toBeGreaterThanOrEqual(this.#counted.least);
		expect(counter).toBeLessThanOrEqual(this.#counted.most);
		this.#counted = { least: counter, most: counter };
		expect(this.#told).toBeLessThanOrEqual(this.#sent);
	}

	#transaction(number: number): Operation {
		const slot = number % SLOTS;
		this.#slots[slot]!.sent = number;
		this.#counted.most++;
		const writes: Write[] = this.#stores.flatMap((store) =>
			KEYS.map((key) => ({ write: { case: "set", value: setOf(store, `${key}/${slot}`, number) } }) as const),
		);
		const add = { case: "increment", value: { store: this.#stores[0]!, key: "counter", delta: 1n } } as const;
		writes.push({ write: add });
		return { case: "transact", value: { writes } };
	}
}

/** Whether the call failed because the hub is gone. */
export function isGone(error: unknown): boolean {
	return failureFrom(ConnectError.from(error)).reason === undefined;
}
