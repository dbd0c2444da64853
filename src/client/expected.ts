import { create } from "@bufbuild/protobuf";
import { type ExpectedState, ExpectedStateSchema } from "#gen/qirvo/hub/v1/payload_pb.js";

/** What must be there for a write to happen: an entry of this revision, none, one, or anything. */
export type Expected = bigint | "absent" | "exists" | "any";

/** In the words of the contract; undefined stays undefined. */
export function toExpectedState(expected: Expected | undefined): ExpectedState | undefined {
	if (expected === undefined) return undefined;
	const state = create(ExpectedStateSchema);
	state.state = typeof expected === "bigint" ? { case: "revision", value: expected } : { case: expected, value: true };
	return state;
}
