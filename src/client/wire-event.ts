import { fromBinary } from "@bufbuild/protobuf";
import { type Event, EventSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import type { Data } from "./payload.ts";

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

// Field numbers of `Event` and `Payload`.
const ID = 1;
const TYPE = 2;
const PAYLOAD = 7;
const SOURCE = 16;
const SEQUENCE = 18;
const IS_REPLAY = 19;
const JSON_BODY = 1;
const BINARY_BODY = 2;

const text = new TextDecoder();

/**
 * An event in its wire form, of which only what is asked for is decoded: decoding all of it costs several times what a
 * handler that looks at the type and the data needs. One walk over the bytes notes where the frequent fields are.
 *
 * It keeps the frame that it came in alive, which may be some hundred kilobytes.
 */
export class WireEvent {
	readonly #bytes: Uint8Array;
	#walked = false;
	#idAt = 0;
	#idEnd = 0;
	#typeAt = 0;
	#typeEnd = 0;
	#payloadAt = 0;
	#payloadEnd = 0;
	#sourceAt = 0;
	#sourceEnd = 0;
	/** Which of the payload's bodies there is, 0 for none; undefined until it was looked for. */
	#bodyField: number | undefined;
	#bodyAt = 0;
	#bodyEnd = 0;
	#sequence = 0n;
	#isReplay = false;
	#message: Event | undefined;
	/** Where the walk stands. */
	#at = 0;

	constructor(bytes: Uint8Array) {
		this.#bytes = bytes;
	}

	get id(): string {
		this.#walk();
		return this.#text(this.#idAt, this.#idEnd);
	}

	get type(): string {
		this.#walk();
		return this.#text(this.#typeAt, this.#typeEnd);
	}

	get source(): string {
		this.#walk();
		return this.#text(this.#sourceAt, this.#sourceEnd);
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
		this.#message ??= fromBinary(EventSchema, this.#bytes);
		return this.#message;
	}

	/** The JSON value or the bytes of the payload. */
	get data(): Data {
		const { json } = this;
		return json === undefined ? this.bytes : JSON.parse(json);
	}

	/** The payload's JSON text. */
	get json(): string | undefined {
		this.#findBody();
		return this.#bodyField === JSON_BODY ? this.#text(this.#bodyAt, this.#bodyEnd) : undefined;
	}

	/** The payload's bytes. */
	get bytes(): Uint8Array | undefined {
		this.#findBody();
		return this.#bodyField === BINARY_BODY ? this.#bytes.subarray(this.#bodyAt, this.#bodyEnd) : undefined;
	}

	#findBody(): void {
		if (this.#bodyField !== undefined) return;
		this.#walk();
		this.#bodyField = 0;
		this.#at = this.#payloadAt;
		while (this.#at < this.#payloadEnd) {
			const tag = this.#varint();
			if ((tag & 7) !== BYTES) {
				this.#skip(tag & 7);
				continue;
			}
			const length = this.#varint();
			const start = this.#at;
			this.#at = start + length;
			const field = tag >>> 3;
			if (field !== JSON_BODY && field !== BINARY_BODY) continue;
			this.#bodyField = field;
			this.#bodyAt = start;
			this.#bodyEnd = this.#at;
		}
	}

	#walk(): void {
		if (this.#walked) return;
		this.#walked = true;
		const end = this.#bytes.byteLength;
		while (this.#at < end) {
			const tag = this.#varint();
			const field = tag >>> 3;
			const wireType = tag & 7;
			if (wireType === BYTES) {
				const length = this.#varint();
				this.#note(field, this.#at, this.#at + length);
				this.#at += length;
			} else if (wireType === VARINT && field === SEQUENCE) {
				this.#sequence = this.#bigVarint();
			} else if (wireType === VARINT && field === IS_REPLAY) {
				this.#isReplay = this.#varint() !== 0;
			} else {
				this.#skip(wireType);
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

	#text(at: number, end: number): string {
		return at === end ? "" : text.decode(this.#bytes.subarray(at, end));
	}

	/** A varint of at most 32 bits that matter. */
	#varint(): number {
		const bytes = this.#bytes;
		let byte = bytes[this.#at++]!;
		if (byte < 0x80) return byte;
		let value = byte & 0x7f;
		for (let shift = 7; shift < 70; shift += 7) {
			byte = bytes[this.#at++]!;
			if (shift < 32) value |= (byte & 0x7f) << shift;
			if (byte < 0x80) return value >>> 0;
		}
		throw new RangeError("an event is not in wire form");
	}

	#bigVarint(): bigint {
		const bytes = this.#bytes;
		let low = 0;
		let scale = 1;
		// Exact in a number up to 2^49; a log of more events than that takes the slow way.
		for (let count = 0; count < 7; count++) {
			const byte = bytes[this.#at++]!;
			low += (byte & 0x7f) * scale;
			if (byte < 0x80) return BigInt(low);
			scale *= 128;
		}
		let value = BigInt(low);
		for (let shift = 49n; shift < 70n; shift += 7n) {
			const byte = bytes[this.#at++]!;
			value |= BigInt(byte & 0x7f) << shift;
			if (byte < 0x80) return value;
		}
		throw new RangeError("an event is not in wire form");
	}

	#skip(wireType: number): void {
		if (wireType === VARINT) this.#varint();
		else if (wireType === FIXED64) this.#at += 8;
		else if (wireType === FIXED32) this.#at += 4;
		else if (wireType === BYTES) this.#at += this.#varint();
		else throw new RangeError("an event is not in wire form");
	}
}
