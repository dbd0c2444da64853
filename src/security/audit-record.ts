import type { AuditEntry } from "./audit-entry.ts";

/** An entry as it is stored: JSON, so that people and log tools can read it where it lies. */
export interface AuditRecord extends AuditEntry {
	readonly id: string;
	/** Wall-clock milliseconds since the Unix epoch, by the hub that decided. */
	readonly time: number;
}

const MAX_TEXT = 1024;

/** Cuts every text at 1,024 characters: parts of it may be what a caller sent. */
export function encodeAuditRecord(record: AuditRecord): Uint8Array {
	return Buffer.from(
		JSON.stringify(record, (_, value) => (typeof value === "string" ? value.slice(0, MAX_TEXT) : value)),
	);
}

/** The inverse, for bytes that `encodeAuditRecord` made. */
export function decodeAuditRecord(bytes: Uint8Array): AuditRecord {
	return JSON.parse(Buffer.from(bytes).toString("utf8")) as AuditRecord;
}
