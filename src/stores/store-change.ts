import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { StoreRecordSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import type { Store } from "#gen/qirvo/hub/v1/stores_pb.js";
import { HubError } from "../hub-error.ts";
import type { AnswerCodec, RepeatableRequest } from "../idempotency/first-answers.ts";
import type { ExpectedRevision } from "../state/expected-revision.ts";
import type { KvWrite } from "../state/kv-store.ts";
import type { OpenStore } from "./open-store.ts";
import { STORE_LIMITS } from "./store-limits.ts";

/** How a store is to be changed. */
export interface StoreChange {
	readonly expected: ExpectedRevision;
	/** Checks everything and changes nothing. */
	readonly validateOnly: boolean;
	readonly request?: RepeatableRequest | undefined;
	/**
	 * Throws where the change may not be made. Asked at its turn, when no other change can come between; not of a repeat, which
	 * gets its answer though the change itself may have taken the right away.
	 */
	readonly admit?: (() => void) | undefined;
	/**
	 * Further writes for the persistent keyspace: in the commit of a persistent store, in one of their own before that of one
	 * that is not.
	 */
	readonly also: readonly KvWrite[];
}

/** What became of a change. */
export interface ChangedStore {
	/** As it is then; of a deleted one as it was; of a repeat as it was after the first time. */
	readonly store: OpenStore;
	readonly duplicate: boolean;
	/** Whether something was stored now. */
	readonly stored: boolean;
}

/** Told of each change of a store, in order: `before` is absent of a new one, `after` of a deleted one. Must not throw. */
export type StoreListener = (name: string, before: OpenStore | undefined, after: OpenStore | undefined) => void;

export const STORE_ANSWERS: AnswerCodec<Store> = { encode: encodeStore, decode: decodeStore };

export function encodeStore(store: Store): Uint8Array {
	return toBinary(StoreRecordSchema, create(StoreRecordSchema, { store }));
}

export function decodeStore(bytes: Uint8Array): Store {
	return fromBinary(StoreRecordSchema, bytes).store!;
}

export function storeNotFound(name: string): HubError {
	return new HubError("STORE_NOT_FOUND", `there is no store "${name}"`, {
		metadata: { store: name },
		resource: { type: "store", name },
	});
}

export function storeExists(name: string): HubError {
	return new HubError("STORE_EXISTS", `there is a store "${name}" already`, {
		metadata: { store: name },
		resource: { type: "store", name },
	});
}

/** Too many stores: of the owner, or of all where `owner` is undefined. */
export function tooManyStores(owner: string | undefined): HubError {
	const limit = owner === undefined ? STORE_LIMITS.stores : STORE_LIMITS.storesPerOwner;
	return new HubError(
		"LIMIT_EXCEEDED",
		`there are ${limit} stores${owner === undefined ? "" : " of this owner"} already`,
		{
			metadata: { limit: String(limit) },
			quota: { subject: owner === undefined ? "hub" : `plugin:${owner}`, description: `at most ${limit} stores` },
		},
	);
}
