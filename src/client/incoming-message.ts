import { type Delivery, type Message, MessageKind, Priority } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { durationMs, toDate } from "./durations.ts";
import { type Data, dataOf } from "./payload.ts";

export type MessagePriority = "low" | "normal" | "high";

/** A message or request as its handler sees it. A thin view: dates and data are made when they are asked for. */
export class IncomingMessage<T = Data> {
	/** The delivery in its wire form. */
	readonly raw: Delivery & { readonly message: Message };
	#data: T | undefined;
	#parsed = false;

	constructor(raw: Delivery & { readonly message: Message }) {
		this.raw = raw;
	}

	get id(): string {
		return this.raw.message.id;
	}

	get type(): string {
		return this.raw.message.type;
	}

	/** The plugin that sent it. Stamped by the hub. */
	get source(): string {
		return this.raw.message.source;
	}

	get attributes(): Readonly<Record<string, string>> {
		return this.raw.message.attributes;
	}

	get priority(): MessagePriority {
		const { priority } = this.raw.message;
		return priority === Priority.HIGH ? "high" : priority === Priority.LOW ? "low" : "normal";
	}

	/** Whether it came to others, too. */
	get kind(): "direct" | "publication" | "broadcast" {
		const { kind } = this.raw.message;
		if (kind === MessageKind.PUBLICATION) return "publication";
		return kind === MessageKind.BROADCAST ? "broadcast" : "direct";
	}

	/** What it was published to, as its sender spelled it; undefined for what is no publication. */
	get topic(): string | undefined {
		return this.raw.message.topic || undefined;
	}

	/** Whether the sender waits for what the handler returns. */
	get requiresResponse(): boolean {
		return this.raw.message.requiresResponse;
	}

	/** 1 for the first delivery. */
	get attempt(): number {
		return this.raw.message.attempt;
	}

	/** How long the sender still waited when the hub passed it on, in milliseconds; requests only. */
	get timeLeftMs(): number | undefined {
		return this.raw.timeLeft && durationMs(this.raw.timeLeft);
	}

	/** When it was sent, as the sender says. */
	get time(): Date | undefined {
		return this.raw.message.time && toDate(this.raw.message.time);
	}

	/** When the hub accepted it. */
	get hubTime(): Date | undefined {
		return this.raw.message.hubTime && toDate(this.raw.message.hubTime);
	}

	/** The JSON value, parsed once, or the bytes. Throws a SyntaxError where the sender's text is not JSON. */
	get data(): T {
		if (!this.#parsed) {
			this.#data = dataOf(this.raw.message.payload);
			this.#parsed = true;
		}
		return this.#data as T;
	}
}
