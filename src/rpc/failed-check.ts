import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { FailedCheckSchema, type FailedChecksSchema } from "#gen/qirvo/hub/v1/entries_pb.js";
import type { FailedCheck } from "../hub-error.ts";

/** A failed expectation as the wire shows it. */
function failedCheckOf({ store, key, expected, actual }: FailedCheck): MessageInitShape<typeof FailedCheckSchema> {
	const state =
		expected.kind === "revision"
			? ({ case: "revision", value: expected.revision } as const)
			: ({ case: expected.kind, value: true } as const);
	return { store, key, expected: { state }, actualRevision: BigInt(actual) };
}

/**
 * Of a status, which travels as a trailer: many clients take no more than 8 KiB of trailers, and where there is more they lose the
 * whole status.
 */
const MAX_DETAIL_BYTES = 4096;

/** The detail of a status: the first of them, as many as there is room for. */
export function failedChecksOf(failed: readonly FailedCheck[]): MessageInitShape<typeof FailedChecksSchema> {
	const checks: MessageInitShape<typeof FailedCheckSchema>[] = [];
	let bytes = 0;
	for (const each of failed) {
		// The header of one in the list is three bytes at most.
		bytes += encodeFailedCheck(each).byteLength + 3;
		if (bytes > MAX_DETAIL_BYTES) break;
		checks.push(failedCheckOf(each));
	}
	return { checks, omitted: failed.length - checks.length };
}

/** A failed expectation in wire form. */
export function encodeFailedCheck(check: FailedCheck): Uint8Array {
	return toBinary(FailedCheckSchema, create(FailedCheckSchema, failedCheckOf(check)));
}
