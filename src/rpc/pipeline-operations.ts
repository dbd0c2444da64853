import { HubError } from "../hub-error.ts";
import { WireReader } from "../wire/wire-reader.ts";
import type { EntryWriteKind } from "./entry-operations.ts";

/** An operation of a pipeline, not yet looked into: its id, what it is, and a reader of that. */
export interface PipelineOperation {
	readonly id: number | bigint;
	/** Undefined: it says nothing. */
	readonly kind: "get" | "transact" | EntryWriteKind | undefined;
	readonly body: WireReader;
}

/** Fields of `PipelineOperation`. */
const KINDS = [undefined, undefined, "get", "set", "delete", "increment", "append", "transact"] as const;

const MAX_OPERATIONS = 4096;

/** The operations of a `PipelineRequest`. Refuses a frame of none or too many. */
export function readOperations(frame: Uint8Array): readonly PipelineOperation[] {
	const reader = new WireReader(frame);
	const operations: PipelineOperation[] = [];
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		if (number !== 1) {
			reader.skip();
			continue;
		}
		if (operations.length === MAX_OPERATIONS) {
			throw HubError.field("operations", `has more than ${MAX_OPERATIONS} operations`);
		}
		operations.push(readOperation(reader));
	}
	if (operations.length === 0) throw HubError.field("operations", "is empty");
	return operations;
}

function readOperation(frame: WireReader): PipelineOperation {
	const end = frame.delimited();
	const reader = new WireReader(frame.bytes, frame.pos, end);
	let id: number | bigint = 0;
	let kind: PipelineOperation["kind"];
	let body = reader;
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		if (number === 1) id = reader.uint64();
		else if (KINDS[number] === undefined) reader.skip();
		else {
			kind = KINDS[number];
			body = reader.nested();
		}
	}
	frame.pos = end;
	return { id, kind, body };
}
