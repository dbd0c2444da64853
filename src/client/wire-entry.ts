import { fromBinary } from "@bufbuild/protobuf";
import { type Entry, EntrySchema } from "#gen/qirvo/hub/v1/entries_pb.js";
import { findBody, type WireBody } from "./wire-body.ts";
import { DELIMITED, VARINT, WireCursor } from "./wire-cursor.ts";

// Field numbers of `Entry`.
const KEY = 1;
const VALUE = 2;
const REVISION = 16;

/**
 * An entry in its wire form, a range of the frame that it came in, of which only what is asked for is decoded. It keeps that frame
 * alive, which may be some hundred kilobytes.
 */
export class WireEntry extends WireCursor {
	readonly #start: number;
	readonly #end: number;
	#walked = false;
	#keyAt = 0;
	#keyEnd = 0;
	#valueAt = 0;
	#valueEnd = 0;
	#revision = 0;
	/** Null until it was looked for. */
	#body: WireBody | undefined | null = null;
	#message: Entry | undefined;

	constructor(frame: Uint8Array, start: number, end: number) {
		super(frame, start);
		this.#start = start;
		this.#end = end;
	}

	get key(): string {
		this.#walk();
		return this.text(this.#keyAt, this.#keyEnd);
	}

	get revision(): bigint {
		this.#walk();
		return BigInt(this.#revision);
	}

	/** The value's JSON text. */
	get json(): string | undefined {
		const body = this.#findBody();
		return body?.isJson ? this.text(body.at, body.end) : undefined;
	}

	/** The value's bytes. */
	get binary(): Uint8Array | undefined {
		const body = this.#findBody();
		return body && !body.isJson ? this.bytes.subarray(body.at, body.end) : undefined;
	}

	/** All of it, decoded once. */
	get message(): Entry {
		this.#message ??= fromBinary(EntrySchema, this.bytes.subarray(this.#start, this.#end));
		return this.#message;
	}

	#findBody(): WireBody | undefined {
		if (this.#body === null) {
			this.#walk();
			this.#body = findBody(this, this.#valueAt, this.#valueEnd);
		}
		return this.#body;
	}

	#walk(): void {
		if (this.#walked) return;
		this.#walked = true;
		while (this.at < this.#end) {
			const tag = this.varint();
			const field = tag >>> 3;
			const wireType = tag & 7;
			if (wireType === VARINT && field === REVISION) {
				this.#revision = this.wideVarint();
			} else if (wireType === DELIMITED) {
				const length = this.varint();
				if (field === KEY) {
					this.#keyAt = this.at;
					this.#keyEnd = this.at + length;
				} else if (field === VALUE) {
					this.#valueAt = this.at;
					this.#valueEnd = this.at + length;
				}
				this.at += length;
			} else {
				this.skip(wireType);
			}
		}
	}
}
