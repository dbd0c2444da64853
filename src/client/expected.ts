import { create } from "@bufbuild/protobuf";
import type { FailedCheck as FailedCheckMessage } from "#gen/qirvo/hub/v1/entries_pb.js";
import { type ExpectedState, ExpectedStateSchema } from "#gen/qirvo/hub/v1/payload_pb.js";

/** What must be there for a write to happen: an entry of this revision, none, one, or anything. */
export type Expected = bigint | "absent" | "exists" | "any";

/** An expectation that did not hold. */
export interface FailedCheck {
	readonly store: string;
	readonly key: string;
	readonly expected: Expected;
	/** The revision of the entry that is there; undefined: there is none. */
	readonly actualRevision: bigint | undefined;
}

/** In the words of the contract; undefined stays undefined. */
export function toExpectedState(expected: Expected | undefined): ExpectedState | undefined {
	if (expected === undefined) return undefined;
	const state = create(ExpectedStateSchema);
	state.state = typeof expected === "bigint" ? { case: "revision", value: expected } : { case: expected, value: true };
	return state;
}

export function failedCheck({ store, key, expected, actualRevision }: FailedCheckMessage): FailedCheck {
	const state = expected?.state;
	return {
		store,
		key,
		expected: state?.case === "revision" ? state.value : (state?.case ?? "any"),
		actualRevision: actualRevision === 0n ? undefined : actualRevision,
	};
}
