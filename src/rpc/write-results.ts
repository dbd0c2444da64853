import type { WriteResult, Written } from "../stores/entry-write.ts";
import { WireWriter } from "../wire/wire-writer.ts";

/** `WriteResult` in wire form. */
export function encodeWriteResult({ revision, changed, previous, number }: WriteResult): Uint8Array {
	const writer = new WireWriter(32 + (previous?.byteLength ?? 0));
	if (revision > 0) writer.varint(1, revision);
	if (changed) writer.varint(2, true);
	if (previous !== undefined) writer.bytes(3, previous);
	// A negative int64 is ten bytes, as its two's complement.
	if (number !== undefined && number !== 0) writer.varint(4, number > 0 ? number : BigInt.asUintN(64, BigInt(number)));
	return writer.finish();
}

/** The answer to a single write, whichever: `StoreServiceSetResponse` and its like have the same fields. */
export function encodeWritten({ results, duplicate }: Written): Uint8Array {
	const result = encodeWriteResult(results[0]!);
	const writer = new WireWriter(result.byteLength + 16);
	writer.bytes(1, result);
	if (duplicate) writer.varint(2, true);
	return writer.finish();
}

/** `TransactResponse` in wire form. */
export function encodeTransaction({ results, transactionId, duplicate }: Written): Uint8Array {
	const writer = new WireWriter(results.length * 24 + transactionId.length + 16);
	for (const result of results) writer.bytes(1, encodeWriteResult(result));
	writer.string(2, transactionId);
	if (duplicate) writer.varint(3, true);
	return writer.finish();
}
