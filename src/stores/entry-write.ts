import type { RepeatableRequest } from "../idempotency/first-answers.ts";
import type { ExpectedRevision } from "../state/expected-revision.ts";
import type { OpenStore } from "./open-store.ts";

/** Writes a value. */
export interface SetWrite {
	readonly kind: "set";
	readonly store: OpenStore;
	/** Well formed, 1 to 512 bytes of UTF-8. */
	readonly key: string;
	/** A `Payload` in wire form, within its bounds; must not change. */
	readonly value: Uint8Array;
	readonly expected: ExpectedRevision;
	/** Milliseconds. 0: for ever; undefined: the store's default. */
	readonly ttlMs: number | undefined;
	/** Of the writer; the entry ends with its lease. Empty: it does not. */
	readonly instanceId: string;
	readonly returnPrevious: boolean;
}

/** Deletes an entry; nothing where there is none. */
export interface DeleteWrite {
	readonly kind: "delete";
	readonly store: OpenStore;
	readonly key: string;
	readonly expected: ExpectedRevision;
	readonly returnPrevious: boolean;
}

/** Adds to a JSON integer. */
export interface IncrementWrite {
	readonly kind: "increment";
	readonly store: OpenStore;
	readonly key: string;
	/** Within -2^53+1 to 2^53-1. */
	readonly delta: bigint;
	/** Milliseconds. 0: for ever; undefined: as it is, or the store's default where there is no entry. */
	readonly ttlMs: number | undefined;
}

/** Appends to a JSON array unless an equal element is in it. */
export interface AppendWrite {
	readonly kind: "append";
	readonly store: OpenStore;
	readonly key: string;
	/** A JSON text. */
	readonly element: string;
	/** As in `IncrementWrite`. */
	readonly ttlMs: number | undefined;
}

export type EntryWrite = SetWrite | DeleteWrite | IncrementWrite | AppendWrite;

/** Something that must hold for a unit to be written. */
export interface EntryCheck {
	readonly store: OpenStore;
	readonly key: string;
	readonly expected: ExpectedRevision;
}

/** Checks and writes that are done together or not at all. */
export interface WriteUnit {
	/** The plugin that writes. */
	readonly writer: string;
	readonly checks: readonly EntryCheck[];
	/** Each key once. With `checks` at most 500; `unitCost` at most 960. */
	readonly writes: readonly EntryWrite[];
	/** Names the transaction to watches. Empty: it is none. */
	readonly transactionId: string;
	/** Makes a repeat harmless. */
	readonly request?: RepeatableRequest | undefined;
	/**
	 * Throws where the writer may no longer do to the store what the unit does to it. Asked when the unit's turn comes, where it
	 * had to wait for others or the store was changed since.
	 */
	readonly recheck?: ((store: string, access: "read" | "write") => void) | undefined;
	/** Withdraws the unit, as long as it was not taken: it ends with CANCELLED when its turn comes. */
	readonly signal?: AbortSignal | undefined;
}

/** What one write did. */
export interface WriteResult {
	/** The entry's; of a delete, that of the deletion. 0: nothing was changed. */
	readonly revision: number;
	readonly changed: boolean;
	/** The entry as it was, in wire form with its revisions, where it was asked for. Must not be changed. */
	readonly previous: Uint8Array | undefined;
	/** After an increment. */
	readonly number: number | undefined;
}

/** What a unit did. */
export interface Written {
	/** In the order of the unit's writes. */
	readonly results: readonly WriteResult[];
	/** Whether its request was done before: then `results` have no `previous`. */
	readonly duplicate: boolean;
	/** Of a repeat, the one of the first time. */
	readonly transactionId: string;
}

/** Told once, later, of a unit: what was written, or undefined and why nothing was. Must not throw. */
export type UnitSettled<U extends WriteUnit = WriteUnit> = (
	written: Written | undefined,
	error: unknown,
	unit: U,
) => void;
