import { create } from "@bufbuild/protobuf";
import {
	type SendResponse,
	type SendStreamRequest,
	SendStreamRequestSchema,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { type Clients, until } from "../harness/hub.ts";
import { Outbox } from "../harness/outbox.ts";
import type { MessageLedger } from "./message-ledger.ts";

const WINDOW = 8;
/** An answer that takes longer is a fault of the hub, and is told as one. */
const ANSWERED = { timeoutMs: 20_000 };

export interface CrashSenderOptions {
	readonly key: string;
	readonly ledger: MessageLedger;
	/** Whether several are on their way at a time, on one stream; else a call each, one after the other. */
	readonly inWindows: boolean;
	/** Whether another message may be made now; asked again and again. */
	readonly mayGo: () => boolean;
}

/** Sends the messages of one ordering key in order; what has no answer when the hub dies is sent again to the next. */
export class CrashSender {
	readonly #options: CrashSenderOptions;
	readonly #ids: string[] = [];

	constructor(options: CrashSenderOptions) {
		this.#options = options;
		options.ledger.sent.set(options.key, this.#ids);
	}

	/** Until `isDone` or the hub is gone. Rejects where a send fails before `stopping` says that the hub is about to be. */
	async run(clients: Clients, isDone: () => boolean, stopping: AbortSignal): Promise<void> {
		const unanswered = this.#ids.filter((id) => !this.#options.ledger.accepted.has(id));
		const over = () => stopping.aborted || (isDone() && unanswered.length === 0);
		const next = async () => {
			await until(() => over() || unanswered.length > 0 || this.#options.mayGo(), { ms: 60_000 });
			return over() ? undefined : (unanswered.shift() ?? this.#newId());
		};
		try {
			await (this.#options.inWindows ? this.#stream(clients, next) : this.#call(clients, next));
		} catch (error) {
			if (!stopping.aborted) throw error;
		}
	}

	async #call({ messaging }: Clients, next: () => Promise<string | undefined>): Promise<void> {
		for (let id = await next(); id !== undefined; id = await next()) {
			this.#accepted(id, await messaging.send(this.#send(id), ANSWERED));
		}
	}

	async #stream({ messaging }: Clients, next: () => Promise<string | undefined>): Promise<void> {
		const up = new Outbox<SendStreamRequest>();
		const open = new Map<bigint, string>();
		let entryId = 0n;
		let isEnding = false;
		const fill = async () => {
			const entries = [];
			while (!isEnding && open.size < WINDOW) {
				const id = await next();
				isEnding = id === undefined;
				if (id === undefined) break;
				open.set(++entryId, id);
				entries.push({ entryId, ...this.#send(id) });
			}
			if (entries.length > 0)
				up.push(create(SendStreamRequestSchema, { frame: { case: "batch", value: { entries } } }));
			if (isEnding && open.size === 0) up.end();
		};
		await fill();
		for await (const { frame } of messaging.sendStream(up)) {
			if (frame.case !== "results") continue;
			for (const { entryId, outcome } of frame.value.results) {
				const id = open.get(entryId)!;
				open.delete(entryId);
				if (outcome.case !== "accepted") throw new Error(`${id} was refused: ${JSON.stringify(outcome.value)}`);
				this.#accepted(id, outcome.value);
			}
			await fill();
		}
	}

	#send(id: string) {
		const payload = { body: { case: "json", value: "1" } } as const;
		return {
			to: { target: { case: "pluginId", value: "worker" } } as const,
			message: { id, type: "job", orderingKey: this.#options.key, payload },
		};
	}

	#accepted(id: string, answer: SendResponse): void {
		if (answer.id !== id) throw new Error(`${id} was accepted as ${answer.id}`);
		this.#options.ledger.accepted.add(id);
	}

	#newId(): string {
		const id = `${this.#options.key}-${this.#ids.length}`;
		this.#ids.push(id);
		return id;
	}
}
