import { type FailedCheck, HubError } from "../hub-error.ts";
import { describeExpected } from "../state/expected-revision.ts";
import { STORE_LIMITS } from "./store-limits.ts";

/** Expectations that did not hold; at least one. */
export function revisionMismatch(failedChecks: readonly FailedCheck[]): HubError {
	const { store, key, expected, actual } = failedChecks[0]!;
	const wanted = describeExpected(expected);
	const found = actual === 0 ? "there is no entry" : `it has revision ${actual}`;
	const others = failedChecks.length === 1 ? "" : ` (and ${failedChecks.length - 1} more)`;
	return new HubError("REVISION_MISMATCH", `expected ${wanted}, but ${found}${others}`, {
		metadata: { store, key, expected: wanted, revision: String(actual) },
		failedChecks,
	});
}

/** `pluginId`: whose share of the store is used up; empty: the store is full. */
export function quotaExceeded(store: string, pluginId: string, unit: "keys" | "bytes", limit: number): HubError {
	const whose = pluginId === "" ? "the store" : "the plugin's share of the store";
	return new HubError("QUOTA_EXCEEDED", `${whose} has at most ${limit} ${unit}`, {
		metadata: { store, quota: pluginId === "" ? "store" : "plugin", unit, limit: String(limit) },
		quota: {
			subject: pluginId === "" ? `store:${store}` : `store:${store}/plugin:${pluginId}`,
			description: `at most ${limit} ${unit}`,
		},
	});
}

export function instanceNotFound(instanceId: string): HubError {
	return new HubError("INSTANCE_NOT_FOUND", "the caller has no such instance", {
		metadata: { instance_id: instanceId.slice(0, 64) },
		resource: { type: "instance", name: instanceId.slice(0, 64) },
	});
}

export function mixedPersistence(): HubError {
	return new HubError(
		"MIXED_PERSISTENCE",
		"a transaction writes to stores that are persistent or to stores that are not",
		{
			precondition: { type: "PERSISTENCE", subject: "transaction", description: "its stores are kept alike" },
		},
	);
}

/** A unit that is beyond its bounds, whatever the state. */
export function unitTooLarge(description: string): HubError {
	return new HubError("LIMIT_EXCEEDED", `the transaction has ${description}`, {
		metadata: { limit: String(STORE_LIMITS.unitCost) },
		quota: { subject: "transaction", description },
	});
}

/** The writer has more to do than it may hold, in all or of one plugin. */
export function writerFull(): HubError {
	return new HubError("LIMIT_EXCEEDED", "too many writes wait to be stored", {
		retryAfterMs: 1000,
		quota: { subject: "writes", description: "writes that wait to be stored, of all plugins or of this one" },
	});
}
