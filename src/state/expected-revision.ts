import { HubError } from "../hub-error.ts";

/** What the stored thing must look like for a write to happen. */
export type ExpectedRevision =
	| { readonly kind: "any" }
	| { readonly kind: "absent" }
	| { readonly kind: "exists" }
	| { readonly kind: "revision"; readonly revision: bigint };

/** Refuses with REVISION_MISMATCH unless `actual` is what was expected; 0 means that the thing does not exist. */
export function requireRevision(
	expected: ExpectedRevision,
	actual: number,
	resource: { readonly type: string; readonly name: string },
): void {
	if (meetsRevision(expected, actual)) return;
	const wanted = describeExpected(expected);
	const found = actual === 0 ? "it does not exist" : `it has revision ${actual}`;
	throw new HubError("REVISION_MISMATCH", `${resource.name}: expected ${wanted}, but ${found}`, {
		metadata: { expected: wanted, revision: String(actual) },
		resource,
	});
}

/** As an error says it. */
export function describeExpected(expected: ExpectedRevision): string {
	return expected.kind === "revision" ? `revision ${expected.revision}` : expected.kind;
}

/** Whether `actual` is what was expected; 0 means that the thing does not exist. */
export function meetsRevision(expected: ExpectedRevision, actual: number): boolean {
	switch (expected.kind) {
		case "any":
			return true;
		case "absent":
			return actual === 0;
		case "exists":
			return actual !== 0;
		case "revision":
			return actual !== 0 && expected.revision === BigInt(actual);
	}
}
