import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type PipelineOperation, PipelineOperationSchema } from "#gen/qirvo/hub/v1/entries_pb.js";
import type { Expected } from "./expected.ts";
import { type Data, type PayloadOptions, toJson } from "./payload.ts";
import { writePayload } from "./payload-encoder.ts";
import { WireOutput } from "./wire-output.ts";
import { WireRange } from "./wire-range.ts";

/** What a write of a value says beside the value. */
export interface SetFields extends PayloadOptions {
	readonly expected?: Expected;
	/** In milliseconds; 0: for ever. */
	readonly ttl?: number;
	readonly instanceId?: string;
	readonly returnPrevious?: boolean;
}

// Tags: of `PipelineRequest.operations`, of `PipelineOperation`, of `StoreServiceGetRequest` and `SetOperation`, of `ExpectedState`.
const OPERATIONS = 0x0a;
const ID = 0x08;
const GET = 0x12;
const SET = 0x1a;
const STORE = 0x0a;
const KEY = 0x12;
const VALUE = 0x1a;
const EXPECTED = 0x22;
const TTL = 0x2a;
const INSTANCE_ID = 0x32;
const RETURN_PREVIOUS = 0x38;
const REVISION = 0x08;
const STATES = { absent: 0x10, exists: 0x18, any: 0x20 } as const;

/** What is expected of headers, so that lengths are right at the first attempt where texts are short and ASCII. */
const ADDRESS_BYTES = 4;
const VALUE_BYTES = 8;
const ID_BYTES = 6;
const HEADER_BYTES = 4;
const SHORT = 96;

/**
 * Writes operations straight into the wire form that they have in a `PipelineRequest`, one behind the other, so that those of a frame
 * are copied at once. Gets and sets are written by hand: building a message and encoding that costs several times as much.
 */
export class OperationEncoder {
	readonly #output = new WireOutput();

	get(id: number, store: string, key: string): WireRange {
		const inner = store.length + key.length + ADDRESS_BYTES;
		const mark = this.#open(id, GET, inner);
		const output = this.#output;
		output.string(STORE, store);
		output.string(KEY, key);
		return this.#close(mark, inner);
	}

	/** Throws a TypeError on a value that JSON cannot say, a RangeError on a time that is none. */
	set(id: number, store: string, key: string, value: Data, fields: SetFields): WireRange {
		const { expected, ttl, instanceId, returnPrevious } = fields;
		const body: string | Uint8Array = value instanceof Uint8Array ? value : toJson(value);
		const inner = store.length + key.length + body.length + ADDRESS_BYTES + VALUE_BYTES;
		const mark = this.#open(id, SET, inner);
		const output = this.#output;
		output.string(STORE, store);
		output.string(KEY, key);
		writePayload(output, VALUE, body, fields);
		if (expected !== undefined) this.#expected(expected);
		if (ttl !== undefined) output.duration(TTL, ttl);
		if (instanceId !== undefined && instanceId !== "") output.string(INSTANCE_ID, instanceId);
		if (returnPrevious === true) output.uint(RETURN_PREVIOUS, 1);
		return this.#close(mark, inner);
	}

	/** Any other operation. */
	message(id: number, operation: MessageInitShape<typeof PipelineOperationSchema>["operation"]): WireRange {
		const message: PipelineOperation = create(PipelineOperationSchema, { id: BigInt(id), operation });
		const output = this.#output;
		output.begin();
		output.bytes(OPERATIONS, toBinary(PipelineOperationSchema, message));
		return new WireRange(output.chunk, output.start, output.end);
	}

	#open(id: number, tag: number, inner: number): { readonly outer: number; readonly nested: number } {
		const output = this.#output;
		output.begin();
		const outer = output.open(OPERATIONS, outerSize(inner));
		output.uint(ID, id);
		return { outer, nested: output.open(tag, inner) };
	}

	#close({ outer, nested }: { readonly outer: number; readonly nested: number }, inner: number): WireRange {
		const output = this.#output;
		output.close(nested, inner);
		output.close(outer, outerSize(inner));
		return new WireRange(output.chunk, output.start, output.end);
	}

	#expected(expected: Expected): void {
		const output = this.#output;
		const mark = output.open(EXPECTED, 0);
		if (typeof expected === "bigint") output.uint(REVISION, Number(expected));
		else output.uint(STATES[expected], 1);
		output.close(mark, 0);
	}
}

function outerSize(inner: number): number {
	return inner < SHORT ? inner + ID_BYTES : inner + ID_BYTES + HEADER_BYTES;
}
