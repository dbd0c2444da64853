import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { FailedCheckSchema } from "#gen/qirvo/hub/v1/entries_pb.js";
import type { FailedCheck } from "../hub-error.ts";

/** A failed expectation as the wire shows it. */
export function failedCheckOf({
	store,
	key,
	expected,
	actual,
}: FailedCheck): MessageInitShape<typeof FailedCheckSchema> {
	const state =
		expected.kind === "revision"
			? ({ case: "revision", value: expected.revision } as const)
			: ({ case: expected.kind, value: true } as const);
	return { store, key, expected: { state }, actualRevision: BigInt(actual) };
}

/** The same in wire form. */
export function encodeFailedCheck(check: FailedCheck): Uint8Array {
	return toBinary(FailedCheckSchema, create(FailedCheckSchema, failedCheckOf(check)));
}
