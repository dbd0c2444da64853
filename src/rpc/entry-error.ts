import { WireWriter } from "../wire/wire-writer.ts";
import { CODE_OF, visibleError } from "./error-codes.ts";

/** The fields of an `EntryError`. */
export interface EntryErrorFields {
	/** Canonical. */
	readonly code: number;
	readonly reason: string;
	readonly message: string;
	readonly metadata: Record<string, string>;
}

/** What a stream says of an entry that failed, in the same words as the status of a unary call. */
export function entryErrorOf(error: unknown, requestId: string): EntryErrorFields {
	const { reason, message, metadata } = visibleError(error, requestId);
	return { code: CODE_OF[reason], reason, message, metadata };
}

/** The same in wire form. Written by hand: a batch may fail a thousand times. */
export function encodeEntryError(failure: unknown, requestId: string): Uint8Array {
	const { code, reason, message, metadata } = entryErrorOf(failure, requestId);
	const error = new WireWriter();
	error.varint(1, code);
	error.string(2, reason);
	error.string(3, message);
	for (const key in metadata) {
		const entry = new WireWriter();
		entry.string(1, key);
		entry.string(2, metadata[key]!);
		error.bytes(4, entry.finish());
	}
	return error.finish();
}
