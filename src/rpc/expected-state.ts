import type { ExpectedState } from "#gen/qirvo/hub/v1/payload_pb.js";
import { HubError } from "../hub-error.ts";
import type { ExpectedRevision } from "../state/expected-revision.ts";

/** Reads what a write expects; nothing given means anything will do. Refuses with INVALID_FIELD. */
export function parseExpectedState(state: ExpectedState | undefined, field: string): ExpectedRevision {
	if (state === undefined) return { kind: "any" };
	const given = state.state;
	if (given.case === undefined) throw HubError.field(field, "says nothing; set revision, absent, exists or any");
	if (given.case === "revision") return { kind: "revision", revision: given.value };
	if (!given.value) throw HubError.field(`${field}.${given.case}`, "must be true where it is set");
	return { kind: given.case };
}
