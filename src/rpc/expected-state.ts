import type { ExpectedState } from "#gen/qirvo/hub/v1/payload_pb.js";
import { HubError } from "../hub-error.ts";
import type { ExpectedRevision } from "../state/expected-revision.ts";
import type { WireReader } from "../wire/wire-reader.ts";

/** Reads what a write expects; nothing given means anything will do. Refuses with INVALID_FIELD. */
export function parseExpectedState(state: ExpectedState | undefined, field: string): ExpectedRevision {
	if (state === undefined) return { kind: "any" };
	const given = state.state;
	if (given.case === undefined) throw HubError.field(field, "says nothing; set revision, absent, exists or any");
	if (given.case === "revision") return { kind: "revision", revision: given.value };
	if (!given.value) throw HubError.field(`${field}.${given.case}`, "must be true where it is set");
	return { kind: given.case };
}

const KINDS = [undefined, "revision", "absent", "exists", "any"] as const;

/** The same of an `ExpectedState` in wire form. */
export function readExpectedState(reader: WireReader, field: string): ExpectedRevision {
	let expected: ExpectedRevision | undefined;
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		const kind = KINDS[number];
		if (kind === undefined) reader.skip();
		else if (kind === "revision") expected = { kind, revision: BigInt(reader.uint64()) };
		else if (reader.number() !== 0) expected = { kind };
		else throw HubError.field(`${field}.${kind}`, "must be true where it is set");
	}
	if (expected === undefined) throw HubError.field(field, "says nothing; set revision, absent, exists or any");
	return expected;
}
