import type { Event } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { toDate } from "./durations.ts";
import type { FeedPosition } from "./feed-position.ts";
import { type Data, dataOf } from "./payload.ts";
import { WireEvent } from "./wire-event.ts";

const EPOCH_START = new Date(0);

/** An event as a subscriber sees it. A thin view: dates and data are made when they are asked for. */
export class HubEvent<T = Data> {
	readonly #event: Event | WireEvent;
	readonly #epoch: string;
	readonly #mayBeReplay: boolean;
	#data: T | undefined;
	#parsed = false;

	/** `mayBeReplay` is false once the subscription has caught up: what the hub had stored in a gap is news to it. */
	constructor(event: Event | WireEvent, epoch: string, mayBeReplay: boolean) {
		this.#event = event;
		this.#epoch = epoch;
		this.#mayBeReplay = mayBeReplay;
	}

	/** The event as the contract has it, decoded as a whole. */
	get raw(): Event {
		return this.#event instanceof WireEvent ? this.#event.message : this.#event;
	}

	/** Whether it was stored before the subscription began. */
	get isReplay(): boolean {
		return this.#mayBeReplay && this.#event.isReplay;
	}

	get id(): string {
		return this.#event.id;
	}

	/** As the publisher spelled it. */
	get type(): string {
		return this.#event.type;
	}

	/** The plugin that published it, or `hub`. Stamped by the hub. */
	get source(): string {
		return this.#event.source;
	}

	/** What it happened to. */
	get subject(): string {
		return this.raw.subject;
	}

	get orderingKey(): string {
		return this.raw.orderingKey;
	}

	get attributes(): Readonly<Record<string, string>> {
		return this.raw.attributes;
	}

	/** When it happened, as the publisher says; the hub's time where the publisher is silent. */
	get time(): Date {
		return this.raw.time ? toDate(this.raw.time) : this.hubTime;
	}

	/** When the hub stored it. */
	get hubTime(): Date {
		return this.raw.hubTime ? toDate(this.raw.hubTime) : EPOCH_START;
	}

	/** The JSON value, parsed once, or the bytes. Throws a SyntaxError where the publisher's text is not JSON. */
	get data(): T {
		if (!this.#parsed) {
			this.#data = this.#event instanceof WireEvent ? this.#event.data : dataOf(this.#event.payload);
			this.#parsed = true;
		}
		return this.#data as T;
	}

	/** The JSON text as the publisher wrote it; undefined for bytes and for nothing. */
	get json(): string | undefined {
		if (this.#event instanceof WireEvent) return this.#event.json;
		const body = this.#event.payload?.body;
		return body?.case === "json" ? body.value : undefined;
	}

	/** The bytes of a binary payload. */
	get bytes(): Uint8Array | undefined {
		if (this.#event instanceof WireEvent) return this.#event.binary;
		const body = this.#event.payload?.body;
		return body?.case === "binary" ? body.value : undefined;
	}

	/** Its place in the log; a subscription may start after it. */
	get position(): FeedPosition {
		return { epoch: this.#epoch, sequence: this.#event.sequence };
	}
}
