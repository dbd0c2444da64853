import { expect } from "vitest";
import type { Reason } from "../../src/hub-error.ts";

/** What matches the error of a call that was refused for this reason, with at least this metadata. */
export function refused(reason: Reason, metadata: Record<string, string> = {}) {
	return expect.objectContaining({ reason, metadata: expect.objectContaining(metadata) });
}
