import { type DescMessage, fromBinary } from "@bufbuild/protobuf";
import * as records from "#gen/qirvo/hub/storage/v1/records_pb.js";
import { EventSchema } from "#gen/qirvo/hub/v1/event_service_pb.js";
import { decodeProgress, encodeProgress } from "../events/durable/durable-progress.ts";
import { decodeAuditRecord } from "../security/audit-record.ts";
import { prefixes } from "../state/key-layout.ts";
import type { StoredRecord } from "../state/log-store.ts";

const PROGRESS = "subscription/progress/";
/** A message. What is below it are its deliveries. */
const MESSAGE = /^mailbox\/[^/]+\/[0-9a-f]{14}$/;

/** What is stored under keys that begin so. The longest that fits counts; keys of other prefixes hold no message. */
const RECORDS: readonly (readonly [prefix: string, schema: DescMessage])[] = [
	["plugin/registration/", records.PluginRecordSchema],
	["plugin/instance/", records.InstanceRecordSchema],
	["policy/permissions/", records.PermissionsRecordSchema],
	["policy/trust/", records.TrustRecordSchema],
	["policy/credential/", records.CredentialRecordSchema],
	["policy/signing-key", records.SigningKeyRecordSchema],
	[prefixes.outboxEvents, records.OutboxRecordSchema],
	[prefixes.idempotency, records.FirstAnswerRecordSchema],
	["subscription/definition/", records.DurableDefinitionRecordSchema],
	["subscription/dead/", records.DeadEventRecordSchema],
	[prefixes.topics, records.TopicRecordSchema],
	[prefixes.routes, records.RouteRecordSchema],
	[prefixes.deadLetters, records.DeadLetterRecordSchema],
	["store/definition/", records.StoreRecordSchema],
	["store/entry/", records.EntryRecordSchema],
	["store/version/", records.VersionRecordSchema],
	["store/tombstone/", records.TombstoneRecordSchema],
	["store/usage/", records.UsageRecordSchema],
];

/** Decodes what a key holds. Throws where it cannot be decoded. */
export function checkStoredEntry(key: string, value: Uint8Array): void {
	if (key.startsWith(PROGRESS)) {
		decodeProgress(value);
		return;
	}
	if (key.startsWith(prefixes.outboxAudit)) {
		decodeAuditRecord(value);
		return;
	}
	if (key.startsWith(prefixes.mailboxes)) {
		fromBinary(MESSAGE.test(key) ? records.MailboxRecordSchema : records.DeliveryRecordSchema, value);
		return;
	}
	const known = RECORDS.find(([prefix]) => key.startsWith(prefix));
	if (known !== undefined) fromBinary(known[1], value);
}

/** Decodes a record of a log. Throws where it cannot be decoded. */
export function checkStoredRecord(log: string, { bytes }: StoredRecord): void {
	if (log === "events") fromBinary(EventSchema, bytes);
	else if (log.startsWith("audit-")) decodeAuditRecord(bytes);
}

/** How far durable subscriptions are is told by the epoch of the log, which has another one after a restore. */
export function renewStoredEntry(
	key: string,
	value: Uint8Array,
	epochs: ReadonlyMap<string, string>,
): Uint8Array | undefined {
	if (!key.startsWith(PROGRESS)) return undefined;
	const progress = decodeProgress(value);
	const epoch = epochs.get(progress.epoch);
	return epoch === undefined ? undefined : encodeProgress({ ...progress, epoch });
}
