import type { Event } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { toDate } from "./durations.ts";
import type { FeedPosition } from "./feed-position.ts";
import { type Data, dataOf } from "./payload.ts";

const EPOCH_START = new Date(0);

/** An event as a subscriber sees it. A thin view: dates and data are made when they are asked for. */
export class HubEvent<T = Data> {
	/** The event in its wire form. */
	readonly raw: Event;
	/** Whether it was stored before the subscription began. */
	readonly isReplay: boolean;
	readonly #epoch: string;
	#data: T | undefined;
	#parsed = false;

	constructor(raw: Event, epoch: string, isReplay: boolean) {
		this.raw = raw;
		this.#epoch = epoch;
		this.isReplay = isReplay;
	}

	get id(): string {
		return this.raw.id;
	}

	/** As the publisher spelled it. */
	get type(): string {
		return this.raw.type;
	}

	/** The plugin that published it, or `hub`. Stamped by the hub. */
	get source(): string {
		return this.raw.source;
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
			this.#data = dataOf(this.raw.payload);
			this.#parsed = true;
		}
		return this.#data as T;
	}

	/** The JSON text as the publisher wrote it; undefined for bytes and for nothing. */
	get json(): string | undefined {
		const body = this.raw.payload?.body;
		return body?.case === "json" ? body.value : undefined;
	}

	/** The bytes of a binary payload. */
	get bytes(): Uint8Array | undefined {
		const body = this.raw.payload?.body;
		return body?.case === "binary" ? body.value : undefined;
	}

	/** Its place in the log; a subscription may start after it. */
	get position(): FeedPosition {
		return { epoch: this.#epoch, sequence: this.raw.sequence };
	}
}
