import { HubError } from "../hub-error.ts";
import type { EntryCheck, EntryWrite, WriteUnit } from "../stores/entry-write.ts";
import type { OpenStore } from "../stores/open-store.ts";
import type { Call } from "./call.ts";
import { contentOf, type EntryAddress, type EntryWriteKind, type EntryWriteRequest } from "./entry-operations.ts";
import { placing } from "./placed-error.ts";
import { type StoreAdmission, writerOf } from "./store-admission.ts";
import type { TransactionRequest } from "./transaction-request.ts";

export const NO_CHECKS: readonly EntryCheck[] = Object.freeze([]);

/** What every operation on entries goes through, whichever way it comes: the guard is asked about its store and its content. */
export class EntryIntake {
	readonly #admission: StoreAdmission;

	constructor(admission: StoreAdmission) {
		this.#admission = admission;
	}

	/** The store of an entry that is to be read. */
	read(call: Call, { store }: Pick<EntryAddress, "store">): OpenStore {
		return this.#admission.admit(call, store, "read");
	}

	/** A single write. */
	write(call: Call, request: EntryWriteRequest): WriteUnit {
		const writes = [this.admit(call, request)];
		const recheck = this.recheckOf(call);
		return { writer: writerOf(call), checks: NO_CHECKS, writes, transactionId: "", recheck };
	}

	/** A check tells what a read tells, and what a write to the same store would tell: it needs the right to one of them. */
	transaction(call: Call, { checks, writes }: TransactionRequest, transactionId: string): WriteUnit {
		const written = new Map<string, OpenStore>();
		const admittedWrites = writes.map((request, index) => {
			const write = placing(`writes[${index}].${request.kind}`, () => this.admit(call, request));
			written.set(request.store, write.store);
			return write;
		});
		const admittedChecks = checks.map(({ store: name, key, expected }): EntryCheck => {
			return { store: written.get(name) ?? this.#admission.admit(call, name, "read"), key, expected };
		});
		const recheck = this.recheckOf(call);
		return { writer: writerOf(call), checks: admittedChecks, writes: admittedWrites, transactionId, recheck };
	}

	/** For a unit that has to wait: what it was admitted by may be taken away meanwhile. */
	recheckOf({ caller }: Call): WriteUnit["recheck"] {
		return (store, access) => this.#admission.recheck(caller, store, access);
	}

	/** The write of a unit. */
	admit(call: Call, request: EntryWriteRequest): EntryWrite {
		const content = contentOf(request);
		let store: OpenStore;
		try {
			store = this.#admission.admit(call, request.store, "write", content);
		} catch (error) {
			// The guard knows a payload, not where in a request it stands.
			throw error instanceof HubError ? error.placed((field) => contentPath(request.kind, field)) : error;
		}
		switch (request.kind) {
			case "set": {
				const { key, expected, ttlMs, instanceId, returnPrevious } = request;
				return { kind: "set", store, key, value: request.value.wire, expected, ttlMs, instanceId, returnPrevious };
			}
			case "delete":
				return {
					kind: "delete",
					store,
					key: request.key,
					expected: request.expected,
					returnPrevious: request.returnPrevious,
				};
			case "increment":
				return { kind: "increment", store, key: request.key, delta: request.delta, ttlMs: request.ttlMs };
			case "append":
				return { kind: "append", store, key: request.key, element: request.element, ttlMs: request.ttlMs };
		}
	}
}

function contentPath(kind: EntryWriteKind, field: string): string {
	if (kind === "append") return "element_json";
	return field.startsWith("payload") ? `value${field.slice("payload".length)}` : field;
}
