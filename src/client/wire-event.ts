import { fromBinary } from "@bufbuild/protobuf";
import { type Event, EventSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import type { Data } from "./payload.ts";
import { findBody, type WireBody } from "./wire-body.ts";
import { DELIMITED, VARINT, WireCursor } from "./wire-cursor.ts";

// Field numbers of `Event`.
const ID = 1;
const TYPE = 2;
const PAYLOAD = 7;
const SOURCE = 16;
const SEQUENCE = 18;
const IS_REPLAY = 19;

/**
 * An event in its wire form, of which only what is asked for is decoded: decoding all of it costs several times what a
 * handler that looks at the type and the data needs. One walk over the bytes notes where the frequent fields are.
 *
 * It keeps the frame that it came in alive, which may be some hundred kilobytes.
 */
export class WireEvent extends WireCursor {
	#walked = false;
	#idAt = 0;
	#idEnd = 0;
	#typeAt = 0;
	#typeEnd = 0;
	#payloadAt = 0;
	#payloadEnd = 0;
	#sourceAt = 0;
	#sourceEnd = 0;
	/** Null until it was looked for. */
	#body: WireBody | undefined | null = null;
	#sequence = 0n;
	#isReplay = false;
	#message: Event | undefined;

	get id(): string {
		this.#walk();
		return this.text(this.#idAt, this.#idEnd);
	}

	get type(): string {
		this.#walk();
		return this.text(this.#typeAt, this.#typeEnd);
	}

	get source(): string {
		this.#walk();
		return this.text(this.#sourceAt, this.#sourceEnd);
	}

	get sequence(): bigint {
		this.#walk();
		return this.#sequence;
	}

	get isReplay(): boolean {
		this.#walk();
		return this.#isReplay;
	}

	/** All of it, decoded once. */
	get message(): Event {
		this.#message ??= fromBinary(EventSchema, this.bytes);
		return this.#message;
	}

	/** The JSON value or the bytes of the payload. */
	get data(): Data {
		const { json } = this;
		return json === undefined ? this.binary : JSON.parse(json);
	}

	/** The payload's JSON text. */
	get json(): string | undefined {
		const body = this.#findBody();
		return body?.isJson ? this.text(body.at, body.end) : undefined;
	}

	/** The payload's bytes. */
	get binary(): Uint8Array | undefined {
		const body = this.#findBody();
		return body && !body.isJson ? this.bytes.subarray(body.at, body.end) : undefined;
	}

	#findBody(): WireBody | undefined {
		if (this.#body === null) {
			this.#walk();
			this.#body = findBody(this, this.#payloadAt, this.#payloadEnd);
		}
		return this.#body;
	}

	#walk(): void {
		if (this.#walked) return;
		this.#walked = true;
		const end = this.bytes.byteLength;
		while (this.at < end) {
			const tag = this.varint();
			const field = tag >>> 3;
			const wireType = tag & 7;
			if (wireType === DELIMITED) {
				const length = this.varint();
				this.#note(field, this.at, this.at + length);
				this.at += length;
			} else if (wireType === VARINT && field === SEQUENCE) {
				this.#sequence = this.bigVarint();
			} else if (wireType === VARINT && field === IS_REPLAY) {
				this.#isReplay = this.varint() !== 0;
			} else {
				this.skip(wireType);
			}
		}
	}

	#note(field: number, at: number, end: number): void {
		if (field === ID) {
			this.#idAt = at;
			this.#idEnd = end;
		} else if (field === TYPE) {
			this.#typeAt = at;
			this.#typeEnd = end;
		} else if (field === PAYLOAD) {
			this.#payloadAt = at;
			this.#payloadEnd = end;
		} else if (field === SOURCE) {
			this.#sourceAt = at;
			this.#sourceEnd = end;
		}
	}
}
