import type { EntryPage, EntryQuery, VersionPage } from "./entry-query.ts";
import type { UnitSettled, WriteUnit } from "./entry-write.ts";
import type { OpenStore } from "./open-store.ts";

/** The entries of all stores, of either kind. */
export interface Entries {
	/** Whether so much waits to be written that nothing should be submitted that can wait elsewhere. */
	readonly isFull: boolean;
	/**
	 * Writes. `settled` is called once, later. Errors: STORE_NOT_FOUND, REVISION_MISMATCH (with all `failedChecks`),
	 * VALIDATION_FAILED, VALUE_MISMATCH, QUOTA_EXCEEDED, INSTANCE_NOT_FOUND, LIMIT_EXCEEDED, MIXED_PERSISTENCE, INVALID_FIELD,
	 * ID_REUSED, CANCELLED, STORAGE_FULL, STORAGE_UNAVAILABLE.
	 */
	submit(unit: WriteUnit, settled: UnitSettled): void;
	/** The entry in wire form with its revisions, which must not be changed; undefined: there is none. */
	get(store: OpenStore, key: string): Uint8Array | undefined;
	list(store: OpenStore, query: EntryQuery): EntryPage;
	/** At most `limit` versions that are older than revision `before`; undefined: from the newest. */
	history(
		store: OpenStore,
		key: string,
		query: { readonly limit: number; readonly before: number | undefined },
	): VersionPage;
}
