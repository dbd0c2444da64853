import { type DescMessage, fromBinary, type MessageShape } from "@bufbuild/protobuf";
import {
	AppendRequestSchema,
	IncrementRequestSchema,
	StoreServiceDeleteRequestSchema,
	StoreServiceSetRequestSchema,
	TransactRequestSchema,
} from "#gen/qirvo/hub/v1/entries_pb.js";
import type { IdSource } from "../clock/clock.ts";
import { HubError } from "../hub-error.ts";
import type { RepeatableRequest } from "../idempotency/first-answers.ts";
import type { WriteUnit, Written } from "../stores/entry-write.ts";
import type { Stores } from "../stores/stores.ts";
import { WireReader } from "../wire/wire-reader.ts";
import { WireWriter } from "../wire/wire-writer.ts";
import { type Call, Encoded, Raw } from "./call.ts";
import type { EntryIntake } from "./entry-intake.ts";
import {
	type EntryWriteKind,
	type EntryWriteRequest,
	noSuchEntry,
	readAddress,
	readWrite,
} from "./entry-operations.ts";
import { placing } from "./placed-error.ts";
import { repeatable } from "./repeatable-request.ts";
import { merged } from "./send-frames.ts";
import { readTransaction } from "./transaction-request.ts";
import { encodeTransaction, encodeWritten } from "./write-results.ts";

/** The entries of all stores. */
export type Entries = Pick<Stores, "submit" | "get" | "list" | "history">;

export interface EntryCallsDeps {
	readonly entries: Entries;
	readonly intake: EntryIntake;
	readonly ids: IdSource;
}

/** The requests of the single writes. All have the operation as field 1 and the request id as field 2. */
const REQUESTS = {
	set: StoreServiceSetRequestSchema,
	delete: StoreServiceDeleteRequestSchema,
	increment: IncrementRequestSchema,
	append: AppendRequestSchema,
} as const satisfies Record<EntryWriteKind, DescMessage>;

/** The RPCs of StoreService that read or write single entries or write many at once. Entries are passed on as they are stored. */
export function entryCalls({ entries, intake, ids }: EntryCallsDeps) {
	const settle = (unit: WriteUnit) =>
		new Promise<Written>((resolve, reject) => {
			entries.submit(unit, (written, error) => (written === undefined ? reject(error) : resolve(written)));
		});

	const get = async (bytes: Uint8Array, call: Call) => {
		const address = readAddress(new WireReader(bytes));
		const entry = entries.get(intake.read(call, address), address.key);
		if (entry === undefined) throw noSuchEntry(address);
		const header = new WireWriter(16);
		header.header(1, entry.byteLength);
		return new Encoded([header.finish(), entry]);
	};

	const write = (kind: EntryWriteKind) => async (bytes: Uint8Array, call: Call) => {
		const { request, requestId } = readWriteRequest(bytes, kind);
		const unit = placing(kind, () => intake.write(call, request));
		const once = requestId === "" ? undefined : repeatableRaw(call, `entry.${kind}`, REQUESTS[kind], bytes);
		return new Encoded([encodeWritten(await settle({ ...unit, request: once }))]);
	};

	const transact = async (bytes: Uint8Array, call: Call) => {
		const request = readTransaction(new WireReader(bytes));
		const unit = intake.transaction(call, request, ids.next());
		const once =
			request.requestId === "" ? undefined : repeatableRaw(call, "entry.transact", TransactRequestSchema, bytes);
		return new Encoded([encodeTransaction(await settle({ ...unit, request: once }))]);
	};

	return {
		get: new Raw(get),
		set: new Raw(write("set")),
		delete: new Raw(write("delete")),
		increment: new Raw(write("increment")),
		append: new Raw(write("append")),
		transact: new Raw(transact),
	};
}

function readWriteRequest(bytes: Uint8Array, kind: EntryWriteKind): { request: EntryWriteRequest; requestId: string } {
	const reader = new WireReader(bytes);
	let operation: Uint8Array | undefined;
	let requestId = "";
	for (let number = reader.next(); number !== 0; number = reader.next()) {
		if (number === 1) operation = merged(operation, reader.view());
		else if (number === 2) requestId = reader.string();
		else reader.skip();
	}
	if (operation === undefined) throw HubError.field(kind, "is required");
	return { request: placing(kind, () => readWrite(new WireReader(operation), kind)), requestId };
}

/** Decodes the request for its digest: two spellings of one request are one. */
function repeatableRaw<D extends DescMessage>(
	call: Call,
	method: string,
	schema: D,
	bytes: Uint8Array,
): RepeatableRequest | undefined {
	const request = fromBinary(schema, bytes) as MessageShape<D> & { readonly requestId: string };
	return repeatable(call, method, schema, request);
}
