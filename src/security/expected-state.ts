import type { ExpectedState } from "#gen/qirvo/hub/v1/payload_pb.js";
import { HubError } from "../hub-error.ts";

/** Throws REVISION_MISMATCH unless the revision is as expected; 0 stands for a thing that does not exist. */
export type Expectation = (revision: number) => void;

/** What a write expects of the state; anything, where it does not say. Refuses a word that is set to false. */
export function parseExpectedState(expected: ExpectedState | undefined, field: string): Expectation {
	const state = expected?.state;
	if (state === undefined) return () => {};
	switch (state.case) {
		case undefined:
			throw HubError.field(field, "says nothing; set revision, absent, exists or any");
		case "revision": {
			const wanted = state.value;
			if (wanted === 0n) throw HubError.field(`${field}.revision`, "is 0; say absent");
			return requires(`revision ${wanted}`, (revision) => BigInt(revision) === wanted);
		}
		default:
			if (!state.value) throw HubError.field(`${field}.${state.case}`, "is false; set it to true or leave it out");
			if (state.case === "any") return () => {};
			return requires(state.case, (revision) => (revision === 0) === (state.case === "absent"));
	}
}

function requires(wanted: string, holds: (revision: number) => boolean): Expectation {
	return (revision) => {
		if (holds(revision)) return;
		const found = revision === 0 ? "nothing is stored" : `it has revision ${revision}`;
		throw new HubError("REVISION_MISMATCH", `expected ${wanted}, but ${found}`, {
			metadata: { expected: wanted, revision: String(revision) },
		});
	};
}
