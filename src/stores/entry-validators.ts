import type { StoreValidator } from "#gen/qirvo/hub/v1/stores_pb.js";
import type { HubError } from "../hub-error.ts";

/** A value that is to be written. */
export interface JudgedWrite {
	/** The store's name. */
	readonly store: string;
	readonly key: string;
	/** A `Payload` in wire form. */
	readonly value: Uint8Array;
	/** The present value in the same form; undefined: there is no entry. */
	readonly oldValue: Uint8Array | undefined;
	/** The plugin that writes. */
	readonly writer: string;
}

/** What every value of a store must pass, compiled. */
export interface EntryValidators {
	/** VALIDATION_FAILED of the first validator that refuses; undefined where none does. Must not throw. */
	check(write: JudgedWrite): HubError | undefined;
}

/**
 * Makes them of a store's configuration, once a revision. Rejects with INVALID_FIELD or INVALID_FILTER, naming the field
 * (`config.validators[2].cel`). With `stored`, of validators that were made before: nothing is compiled until the first check, and
 * whatever does not compile any more refuses every value.
 */
export type CompileValidators = (
	validators: readonly StoreValidator[],
	stored?: "stored",
) => EntryValidators | Promise<EntryValidators>;

/** Those of a store without any. */
export const NO_VALIDATORS: EntryValidators = Object.freeze({ check: () => undefined });
