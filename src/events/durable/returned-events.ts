import { create, toBinary } from "@bufbuild/protobuf";
import { ReturnedEventRecordSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import { HubError } from "../../hub-error.ts";
import type { KvStore, KvWrite } from "../../state/kv-store.ts";
import { prefixEnd } from "../../state/state-backend.ts";
import type { Deadline } from "../../streams/deadline-queue.ts";
import { orderingKeyOf } from "../stored-event.ts";
import { yieldTurn } from "../yield-turn.ts";
import { bareEvent } from "./bare-event.ts";
import type { DeadEvent } from "./dead-event.ts";
import { DURABLE_LIMITS, type DurableDefinition } from "./durable-definition.ts";
import { durableKeys } from "./durable-keys.ts";
import type { UnsettledEvent } from "./durable-progress.ts";
import type { PendingEvent } from "./pending-event.ts";

/** An event that was put back. In memory is its place only: its bytes are read when they are asked for. */
export class ReturnedEvent implements PendingEvent {
	readonly sequence: number;
	readonly orderingKey: string;
	readonly size: number;
	readonly returnedKey: string;
	readonly #kv: KvStore;
	/** Whether it is due: its commit has begun. */
	isDue = false;
	attempts = 0;
	notBefore = 0;
	deadline: Deadline | undefined = undefined;

	constructor(kv: KvStore, key: string, fields: Pick<PendingEvent, "sequence" | "orderingKey" | "size">) {
		this.#kv = kv;
		this.returnedKey = key;
		this.sequence = fields.sequence;
		this.orderingKey = fields.orderingKey;
		this.size = fields.size;
	}

	get entry(): Uint8Array {
		// The record has one field, which is numbered as that of a delivery: its bytes are the entry.
		return this.#kv.get(this.returnedKey)!.value;
	}
}

/**
 * The events of one durable subscription that were put back from the dead letters and are not settled. They are stored
 * beside the log, which may have dropped them.
 */
export class ReturnedEvents {
	readonly #kv: KvStore;
	readonly #prefix: string;
	readonly #events = new Map<number, ReturnedEvent>();
	#bytes = 0;

	constructor(kv: KvStore, { pluginId, name, revision }: DurableDefinition) {
		this.#kv = kv;
		this.#prefix = durableKeys.returnedOf(pluginId, name, revision);
	}

	get size(): number {
		return this.#events.size;
	}

	/** What is not settled, with those of these events that are due, ascending. */
	mergeInto(others: readonly UnsettledEvent[]): readonly UnsettledEvent[] {
		if (this.#events.size === 0) return others;
		const due = [...this.#events.values()].filter(({ isDue }) => isDue);
		return [...others, ...due].sort((a, b) => a.sequence - b.sequence);
	}

	/** Whether the event is due, or about to be. */
	has(sequence: number): boolean {
		return this.#events.has(sequence);
	}

	/** Takes in an event that is to be put back, with the write that stores it. Refuses with LIMIT_EXCEEDED. */
	expect({ sequence, event: bytes }: DeadEvent): { readonly event: ReturnedEvent; readonly write: KvWrite } {
		const value = toBinary(ReturnedEventRecordSchema, create(ReturnedEventRecordSchema, { event: bytes }));
		this.#requireRoom(value.byteLength);
		const key = durableKeys.returned(this.#prefix, sequence);
		const fields = { sequence, orderingKey: orderingKeyOf(bytes), size: value.byteLength };
		const event = new ReturnedEvent(this.#kv, key, fields);
		this.#add(event);
		return { event, write: { key, value } };
	}

	/** Reads what is stored. What is due of it says the progress: of the rest the keys are given, to be deleted. */
	async load(isDue: (sequence: number) => boolean): Promise<readonly string[]> {
		const strays: string[] = [];
		let start = this.#prefix;
		for (let more = true; more; await yieldTurn()) {
			const page = this.#kv.range({ start, end: prefixEnd(this.#prefix), limit: 1000 });
			more = page.more;
			for (const { key, value } of page.entries) {
				start = `${key}\0`;
				const { sequence } = durableKeys.parseReturned(key);
				if (!isDue(sequence)) {
					strays.push(key);
					continue;
				}
				const fields = { sequence, orderingKey: orderingKeyOf(bareEvent(value)), size: value.byteLength };
				const returned = new ReturnedEvent(this.#kv, key, fields);
				returned.isDue = true;
				this.#add(returned);
			}
		}
		return strays;
	}

	get(sequence: number): ReturnedEvent | undefined {
		return this.#events.get(sequence);
	}

	remove({ sequence, size }: PendingEvent): void {
		if (this.#events.delete(sequence)) this.#bytes -= size;
	}

	#add(event: ReturnedEvent): void {
		this.#events.set(event.sequence, event);
		this.#bytes += event.size;
	}

	#requireRoom(bytes: number): void {
		const { events, bytes: mostBytes } = DURABLE_LIMITS.returned;
		if (this.#events.size < events && this.#bytes + bytes <= mostBytes) return;
		throw new HubError("LIMIT_EXCEEDED", "so many events that were put back are not settled yet", {
			metadata: { limit: String(events) },
			quota: {
				subject: "durable subscription",
				description: `at most ${events} events, and ${mostBytes} bytes of them, that were put back are not settled`,
			},
		});
	}
}
