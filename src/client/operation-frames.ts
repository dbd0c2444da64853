import { fromBinary, toBinary } from "@bufbuild/protobuf";
import {
	type PipelineOperation,
	type PipelineRequest,
	PipelineRequestSchema,
	type PipelineResponse,
	PipelineResponseSchema,
	type PipelineResult,
	PipelineResultSchema,
} from "#gen/qirvo/hub/v1/entries_pb.js";
import { StoreService } from "#gen/qirvo/hub/v1/store_service_pb.js";
import { fromEntryError, HubClientError } from "./errors.ts";
import type { PendingOperation } from "./pending-operation.ts";
import type { SelfDecoding } from "./transports/self-decoding.ts";
import type { SelfEncoding } from "./transports/self-encoding.ts";
import { DELIMITED, eachMessage, VARINT, WireCursor } from "./wire-cursor.ts";
import { WireEntry } from "./wire-entry.ts";
import { joinRanges } from "./wire-range.ts";
import { readWriteAnswer } from "./write-answer.ts";

/** A frame of operations. To a transport that wants a message it is one, whose operations are decoded when asked for. */
export class OperationBatch implements PipelineRequest {
	readonly $typeName = "qirvo.hub.v1.PipelineRequest";
	readonly #operations: readonly PendingOperation[];

	constructor(operations: readonly PendingOperation[]) {
		this.#operations = operations;
	}

	get operations(): PipelineOperation[] {
		return this.#operations.map((operation) => operation.toMessage());
	}

	/** The request in its wire form. */
	toBytes(): Uint8Array {
		return joinRanges(NOTHING, this.#operations.map(rangeOf));
	}
}

/** A frame of results that is left in its wire form. */
export interface WireResults {
	readonly frame: { readonly case: "wireResults"; readonly value: Uint8Array };
}

/** `Pipeline`, whose frames are encoded and decoded by hand where the transport lets us. */
export const wirePipeline: typeof StoreService.method.pipeline &
	SelfEncoding<PipelineRequest> &
	SelfDecoding<PipelineResponse | WireResults> = {
	...StoreService.method.pipeline,
	encode: (request) =>
		request instanceof OperationBatch ? request.toBytes() : toBinary(PipelineRequestSchema, request),
	decode: decodeFrame,
};

// Field numbers of `PipelineResponse`, `PipelineResults` and `PipelineResult`.
const RESULTS = 2;
const RESULT = 1;
const ID = 1;
const ENTRY = 2;
const WRITE = 3;

const NOTHING = new Uint8Array(0);
const rangeOf = ({ range }: PendingOperation) => range;

function decodeFrame(bytes: Uint8Array): PipelineResponse | WireResults {
	// Of a oneof: where the first field is the results there is no other.
	if (bytes[0] !== ((RESULTS << 3) | DELIMITED)) return fromBinary(PipelineResponseSchema, bytes);
	const cursor = new WireCursor(bytes, 1);
	const length = cursor.varint();
	if (cursor.at + length !== bytes.byteLength) return fromBinary(PipelineResponseSchema, bytes);
	return { frame: { case: "wireResults", value: bytes.subarray(cursor.at) } };
}

/** Whose answer a result is; undefined where nobody waits for it any more. */
export type TakeOperation = (id: number) => PendingOperation | undefined;

/** Settles the operations that a frame answers. */
export function settleResults({ frame }: PipelineResponse | WireResults, take: TakeOperation): void {
	if (frame.case === "wireResults") eachMessage(frame.value, RESULT, (cursor, end) => settleOne(cursor, end, take));
	else if (frame.case === "results") {
		for (const result of frame.value.results) settleMessage(result, take(Number(result.id)));
	}
}

/** One result, from where the cursor stands to `end`. What is not of the usual form is decoded as a message. */
function settleOne(cursor: WireCursor, end: number, take: TakeOperation): void {
	const { bytes, at: start } = cursor;
	if (start < end && cursor.varint() === ((ID << 3) | VARINT)) {
		const id = cursor.wideVarint();
		const tag = cursor.at < end ? cursor.varint() : 0;
		const isLast = tag !== 0 && cursor.varint() === end - cursor.at;
		if (isLast && tag === ((ENTRY << 3) | DELIMITED)) {
			take(id)?.gotEntry(new WireEntry(bytes, cursor.at, end));
			cursor.at = end;
			return;
		}
		if (isLast && tag === ((WRITE << 3) | DELIMITED)) {
			take(id)?.wrote(readWriteAnswer(cursor, end));
			cursor.at = end;
			return;
		}
	}
	cursor.at = end;
	const result = fromBinary(PipelineResultSchema, bytes.subarray(start, end));
	settleMessage(result, take(Number(result.id)));
}

function settleMessage({ result, failedChecks }: PipelineResult, operation: PendingOperation | undefined): void {
	if (operation === undefined) return;
	if (result.case === "entry") operation.gotEntry(result.value);
	else if (result.case === "write") operation.wrote(result.value);
	else if (result.case === "transaction") operation.transacted(result.value);
	else if (result.case === "error") operation.refused(fromEntryError(result.value, failedChecks));
	else operation.reject(new HubClientError("UNKNOWN", "the hub did not say what became of the operation"));
}
