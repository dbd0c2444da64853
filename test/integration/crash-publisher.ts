import type { MessageInitShape } from "@bufbuild/protobuf";
import type { EmitAcknowledgement, EmitStreamRequestSchema, EventSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { Mailbox } from "../../src/streams/mailbox.ts";
import type { Clients } from "../harness/hub.ts";

type EventDraft = MessageInitShape<typeof EventSchema>;
type Batch = MessageInitShape<typeof EmitStreamRequestSchema>;

const BATCHES_IN_FLIGHT = 4;

/** Where the hub says an event is. */
export interface Place {
	readonly epoch: string;
	readonly sequence: bigint;
	readonly duplicate: boolean;
}

/** The event with this id; anyone can work it out again. */
export function eventOf(id: string): { id: string; type: string; payload: { body: { case: "json"; value: string } } } {
	const number = Number(id.split("-")[1]);
	const json = JSON.stringify({ id, filler: "x".repeat((number * 37) % 400) });
	return { id, type: `crash.kind${number % 5}`, payload: { body: { case: "json", value: json } } };
}

/** A publisher that has at most one way to be ahead of its acknowledgements, and remembers what it sent and was told. */
export class CrashPublisher {
	readonly id: string;
	readonly #inBatches: boolean;
	/** Every id that was sent, in order. */
	readonly sent: string[] = [];
	/** What the hub said of the first so many of them. */
	readonly places: Place[] = [];

	constructor(id: string, options: { readonly inBatches: boolean }) {
		this.id = id;
		this.#inBatches = options.inBatches;
	}

	/** Publishes until the hub is gone, which rejects. `heard` is told of every acknowledgement. */
	async publish({ events }: Clients, heard: () => void): Promise<void> {
		if (this.#inBatches) return await this.#publishBatches(events, heard);
		while (true) {
			await this.#emit(events, this.#next());
			heard();
		}
	}

	/** Sends again what was not acknowledged, in the same order. */
	async resend({ events }: Clients): Promise<void> {
		const open = this.sent.slice(this.places.length);
		if (open.length === 0) return;
		if (!this.#inBatches) {
			for (const id of open) await this.#emit(events, eventOf(id));
			return;
		}
		for await (const { frame } of events.emitStream(only({ batchId: 1n, events: open.map(eventOf) }))) {
			if (frame.case === "acknowledgement") this.#acknowledge(open.length, frame.value);
		}
	}

	#next(): EventDraft {
		const id = `${this.id}-${this.sent.length}`;
		this.sent.push(id);
		return eventOf(id);
	}

	async #emit(events: Clients["events"], event: EventDraft): Promise<void> {
		const { position, duplicate } = await events.emit({ event });
		this.places.push({ epoch: position!.epoch, sequence: position!.sequence, duplicate });
	}

	async #publishBatches(events: Clients["events"], heard: () => void): Promise<void> {
		const up = new Mailbox<Batch>({ maxItems: BATCHES_IN_FLIGHT });
		const sizes: number[] = [];
		const push = () => {
			const size = 1 + ((this.sent.length * 13) % 31);
			sizes.push(size);
			up.push({ batchId: BigInt(sizes.length), events: Array.from({ length: size }, () => this.#next()) });
		};
		for (let i = 0; i < BATCHES_IN_FLIGHT; i++) push();
		try {
			for await (const { frame } of events.emitStream(up)) {
				if (frame.case !== "acknowledgement") continue;
				this.#acknowledge(sizes[Number(frame.value.batchId) - 1]!, frame.value);
				heard();
				push();
			}
		} finally {
			up.close();
		}
	}

	#acknowledge(size: number, { epoch, firstSequence, exceptions }: EmitAcknowledgement): void {
		const duplicates = new Map(exceptions.map(({ index, outcome }) => [index, outcome]));
		let sequence = firstSequence;
		for (let index = 0; index < size; index++) {
			const outcome = duplicates.get(index);
			if (outcome === undefined) this.places.push({ epoch, sequence: sequence++, duplicate: false });
			else if (outcome.case === "duplicateOf") this.places.push({ epoch, sequence: outcome.value, duplicate: true });
			else throw new Error(`an event was refused: ${outcome.value?.reason}`);
		}
	}
}

async function* only<T>(item: T): AsyncGenerator<T> {
	yield item;
}
