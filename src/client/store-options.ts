import { Code } from "@connectrpc/connect";
import { HubClientError } from "./errors.ts";
import type { Expected } from "./expected.ts";
import type { Data, PayloadOptions } from "./payload.ts";
import type { Repeat } from "./pending-operation.ts";
import type { CallOptions } from "./repeat-call.ts";
import type { StoreEntry } from "./store-entry.ts";

/** What becomes of a write whose connection breaks before its answer. */
export interface WriteOptions extends CallOptions {
	/**
	 * Names the write, at most 128 characters: the hub does it once within two minutes, so that it is sent again after a loss. It goes
	 * by a call of its own, which is slower, and beside the client's other operations.
	 */
	readonly requestId?: string;
	/** Doing it twice does no harm, so that it is sent again after a loss. Default false. */
	readonly idempotent?: boolean;
}

export interface ExpectingOptions extends WriteOptions {
	/** What must be there; otherwise REVISION_MISMATCH with `failedChecks`. Default `any`. */
	readonly expected?: Expected;
	/** Whether the answer has the entry as it was. */
	readonly returnPrevious?: boolean;
}

/** How long an entry is to live. */
export interface LifeOptions {
	/** Milliseconds from now; 0: for ever. Default: the store's own. */
	readonly ttl?: number;
}

export interface SetOptions extends ExpectingOptions, LifeOptions, PayloadOptions {
	/** The entry ends with the lease of this client's instance. Needs a client with a manifest. */
	readonly ephemeral?: boolean;
}

export interface AddOptions extends WriteOptions, LifeOptions {}

/** What a write did. */
export interface Written<T = Data> {
	/** Of the entry; of a delete, of the deletion. 0: nothing was changed. */
	readonly revision: bigint;
	/** False: the key to delete was not there, the element to append was. */
	readonly changed: boolean;
	/** The entry as it was, where that was asked for and there was one. */
	readonly previous: StoreEntry<T> | undefined;
}

/** A number after an increment. */
export interface Incremented {
	readonly value: number;
	readonly revision: bigint;
}

/** Throws INVALID_FIELD on a key that has no UTF-8: it would become another one. */
export function checkKey(key: string): void {
	if (typeof key === "string" && key.isWellFormed()) return;
	throw invalid("key", "must be a string without lone surrogates");
}

/** What the client itself refuses, as the hub would. */
export function invalid(field: string, problem: string): HubClientError {
	return new HubClientError("INVALID_FIELD", `${field}: ${problem}`, {
		code: Code.InvalidArgument,
		violations: [{ field, description: problem }],
	});
}

/** Whether a write may be sent again. Only one that expects an exact revision cannot take effect twice. */
export function repeatOf(idempotent: boolean | undefined, expectsRevision: boolean): Repeat {
	if (idempotent === true) return "always";
	return expectsRevision ? "exact" : "never";
}
