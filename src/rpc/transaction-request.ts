import { HubError } from "../hub-error.ts";
import type { ExpectedRevision } from "../state/expected-revision.ts";
import type { WireReader } from "../wire/wire-reader.ts";
import {
	type EntryAddress,
	type EntryWriteRequest,
	MAX_VALUE_BYTES,
	readAddress,
	readWrite,
	weightOf,
} from "./entry-operations.ts";
import { readExpectedState } from "./expected-state.ts";
import { placing } from "./placed-error.ts";

/** What somebody wants done all or not at all; not yet admitted. */
export interface TransactionRequest {
	readonly checks: readonly CheckRequest[];
	readonly writes: readonly EntryWriteRequest[];
	/** Empty: it cannot be repeated. */
	readonly requestId: string;
}

interface CheckRequest extends EntryAddress {
	readonly expected: ExpectedRevision;
}

const MAX_OPERATIONS = 500;

/** Fields of `TransactionWrite`. */
const KINDS = [undefined, "set", "delete", "increment", "append"] as const;

/**
 * The fields of a `TransactRequest`. Refuses one that has nothing to write, and with LIMIT_EXCEEDED one that is out of its bounds:
 * together at most 500 checks and writes, and 1 MiB of values.
 */
export function readTransaction(reader: WireReader): TransactionRequest {
	const checks: CheckRequest[] = [];
	const writes: EntryWriteRequest[] = [];
	let requestId = "";
	let bytes = 0;
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		if (number === 1) {
			checks.push(placing(`checks[${checks.length}]`, () => readCheck(reader.nested())));
		} else if (number === 2) {
			const write = placing(`writes[${writes.length}]`, () => readTransactionWrite(reader.nested()));
			writes.push(write);
			bytes += weightOf(write);
		} else if (number === 3) requestId = reader.string();
		else reader.skip();
		if (checks.length + writes.length > MAX_OPERATIONS) throw beyond(MAX_OPERATIONS, "checks and writes");
	}
	if (writes.length === 0 && checks.length === 0) throw HubError.field("writes", "is empty, and so is checks");
	if (bytes > MAX_VALUE_BYTES) throw beyond(MAX_VALUE_BYTES, "bytes of values");
	requireOnce(writes);
	return { checks, writes, requestId };
}

function readCheck(reader: WireReader): CheckRequest {
	let expected: ExpectedRevision | undefined;
	const address = readAddress(reader, (number) => {
		if (number === 3) expected = readExpectedState(reader.nested(), "expected");
		else reader.skip();
	});
	if (expected === undefined) throw HubError.field("expected", "is required");
	return { ...address, expected };
}

function readTransactionWrite(reader: WireReader): EntryWriteRequest {
	let write: EntryWriteRequest | undefined;
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		const kind = KINDS[number];
		if (kind === undefined) reader.skip();
		else write = placing(kind, () => readWrite(reader.nested(), kind));
	}
	if (write === undefined) throw HubError.field("write", "must be set");
	return write;
}

function requireOnce(writes: readonly EntryWriteRequest[]): void {
	const seen = new Set<string>();
	for (const [index, { kind, store, key }] of writes.entries()) {
		// A store's name has no space.
		const address = `${store} ${key}`;
		if (seen.has(address)) throw HubError.field(`writes[${index}].${kind}.key`, "is written twice");
		seen.add(address);
	}
}

function beyond(limit: number, what: string): HubError {
	return new HubError("LIMIT_EXCEEDED", `a transaction has at most ${limit} ${what}`, {
		metadata: { limit: String(limit) },
		quota: { subject: "transaction", description: `at most ${limit} ${what}` },
	});
}
