import { fromBinary } from "@bufbuild/protobuf";
import { type CredentialRecord, CredentialRecordSchema } from "#gen/qirvo/hub/storage/v1/records_pb.js";
import { keys } from "../state/key-layout.ts";
import { KV_LIMITS, type KvEntry, type KvStore } from "../state/kv-store.ts";
import { prefixEnd } from "../state/state-backend.ts";

/** Records of one principal that are kept, those of revoked credentials included. */
export const MAX_RECORDS_PER_PRINCIPAL = 128;

export interface StoredCredential {
	readonly key: string;
	readonly record: CredentialRecord;
}

/** The records of a principal (`plugin:<id>` or `operator:<id>`), in no order of time. */
export function credentialsOf(kv: KvStore, principal: string): StoredCredential[] {
	const prefix = keys.credential(principal, "");
	return kv.range({ start: prefix, end: prefixEnd(prefix), limit: KV_LIMITS.pageEntries }).entries.map(decode);
}

/** The record of this id, whoever it is for. Walks through all records: for operators, not for calls. */
export function findCredential(kv: KvStore, credentialId: string): StoredCredential | undefined {
	const prefix = "policy/credential/";
	const end = prefixEnd(prefix);
	for (let start = prefix, more = true; more; ) {
		const page = kv.range({ start, end, limit: KV_LIMITS.pageEntries });
		const found = page.entries.find(({ key }) => key.slice(key.lastIndexOf("/") + 1) === credentialId);
		if (found !== undefined) return decode(found);
		const last = page.entries.at(-1);
		if (last === undefined) return undefined;
		start = `${last.key}\0`;
		more = page.more;
	}
	return undefined;
}

function decode(entry: KvEntry): StoredCredential {
	return { key: entry.key, record: fromBinary(CredentialRecordSchema, entry.value) };
}
