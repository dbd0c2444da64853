import { fromBinary } from "@bufbuild/protobuf";
import {
	type SendResult,
	SendResultSchema,
	type SendStreamResponse,
	SendStreamResponseSchema,
} from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import { fromEntryError, HubClientError } from "./errors.ts";
import type { SendEntry } from "./send-sink.ts";
import { DELIMITED, eachMessage, VARINT, WireCursor } from "./wire-cursor.ts";

/** A frame of results that is left in its wire form. */
export interface WireSendResults {
	readonly frame: { readonly case: "wireResults"; readonly value: Uint8Array };
}

// Field numbers of `SendStreamResponse`, `SendResultBatch`, `SendResult` and `SendResponse`.
const RESULTS = 2;
const RESULT = 1;
const ENTRY_ID = 1;
const ACCEPTED = 2;
const ID = 1;
const DISPOSITION = 2;
const DUPLICATE = 3;

/** A frame of results as it is, any other by the schema. Throws on bytes that are none. */
export function decodeResults(bytes: Uint8Array): SendStreamResponse | WireSendResults {
	// Of a oneof: where the first field is the results there is no other.
	if (bytes[0] !== ((RESULTS << 3) | DELIMITED)) return fromBinary(SendStreamResponseSchema, bytes);
	const cursor = new WireCursor(bytes, 1);
	const length = cursor.varint();
	if (cursor.at + length !== bytes.byteLength) return fromBinary(SendStreamResponseSchema, bytes);
	return { frame: { case: "wireResults", value: bytes.subarray(cursor.at) } };
}

/** Whose answer a result is; undefined where nobody waits for it any more. */
export type TakeEntry = (entryId: number) => SendEntry | undefined;

/** Settles the entries that a frame answers. */
export function settleSends({ frame }: SendStreamResponse | WireSendResults, take: TakeEntry): void {
	if (frame.case === "wireResults") eachMessage(frame.value, RESULT, (cursor, end) => settleOne(cursor, end, take));
	else if (frame.case === "results") for (const result of frame.value.results) settleMessage(result, take);
}

/** One result, from where the cursor stands to `end`. What is not of the usual form is decoded as a message. */
function settleOne(cursor: WireCursor, end: number, take: TakeEntry): void {
	const { bytes, at: start } = cursor;
	if (start < end && cursor.varint() === ((ENTRY_ID << 3) | VARINT)) {
		const entryId = cursor.wideVarint();
		if (cursor.at < end && cursor.varint() === ((ACCEPTED << 3) | DELIMITED) && cursor.varint() === end - cursor.at) {
			const accepted = readAccepted(cursor, end);
			take(entryId)?.accepted(accepted);
			return;
		}
	}
	cursor.at = end;
	settleMessage(fromBinary(SendResultSchema, bytes.subarray(start, end)), take);
}

function readAccepted(cursor: WireCursor, end: number) {
	let id = "";
	let disposition = 0;
	let duplicate = false;
	while (cursor.at < end) {
		const tag = cursor.varint();
		if (tag === ((ID << 3) | DELIMITED)) {
			const length = cursor.varint();
			id = cursor.text(cursor.at, cursor.at + length);
			cursor.at += length;
		} else if (tag === ((DISPOSITION << 3) | VARINT)) disposition = cursor.varint();
		else if (tag === ((DUPLICATE << 3) | VARINT)) duplicate = cursor.varint() !== 0;
		else cursor.skip(tag & 7);
	}
	return { id, disposition, duplicate };
}

function settleMessage({ entryId, outcome }: SendResult, take: TakeEntry): void {
	const entry = take(Number(entryId));
	if (entry === undefined) return;
	if (outcome.case === "accepted") entry.accepted(outcome.value);
	else if (outcome.case === "reply") entry.answered(outcome.value);
	else if (outcome.case === "error") entry.reject(fromEntryError(outcome.value));
	else entry.reject(new HubClientError("UNKNOWN", "the hub did not say what became of the message"));
}
