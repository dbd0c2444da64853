import type { MessageInitShape } from "@bufbuild/protobuf";
import type { SendEntrySchema, SendResult, SendStreamRequestSchema } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { Clients } from "./hub.ts";
import { Outbox } from "./outbox.ts";

type Entry = Omit<MessageInitShape<typeof SendEntrySchema>, "entryId" | "$typeName" | "$unknown">;

/** One `SendStream` call: what became of each entry is told to whoever sent it. */
export class Sending {
	/** Settles with the end of the stream; rejects where it fails. */
	readonly ended: Promise<void>;
	readonly #up = new Outbox<MessageInitShape<typeof SendStreamRequestSchema>>();
	readonly #open = new Map<bigint, (outcome: SendResult["outcome"]) => void>();
	#lastId = 0n;

	constructor({ messaging }: Clients) {
		this.ended = this.#read(messaging.sendStream(this.#up));
		this.ended.catch(() => {});
	}

	/** Entries that are not answered. */
	get unanswered(): number {
		return this.#open.size;
	}

	/** Sends a batch. */
	send(entries: readonly Entry[], told: (outcome: SendResult["outcome"], index: number) => void): void {
		const batch = entries.map((entry, index) => {
			const entryId = ++this.#lastId;
			this.#open.set(entryId, (outcome) => told(outcome, index));
			return { entryId, ...entry };
		});
		this.#up.push({ frame: { case: "batch", value: { entries: batch } } });
	}

	/** Half-closes. */
	end(): void {
		this.#up.end();
	}

	async #read(stream: ReturnType<Clients["messaging"]["sendStream"]>): Promise<void> {
		for await (const { frame } of stream) {
			if (frame.case !== "results") continue;
			for (const { entryId, outcome } of frame.value.results) {
				const told = this.#open.get(entryId);
				this.#open.delete(entryId);
				told?.(outcome);
			}
		}
	}
}
