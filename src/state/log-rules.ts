import { LOG_LIMITS, type LogOptions, type LogRead, type LogRecord } from "./log-store.ts";

const LOG_NAME = /^[a-z-]{1,32}$/;

/** LOG-2's window where the opener does not say. */
export const LOG_DEFAULTS: Required<LogOptions> = Object.freeze({ rememberMs: 120_000, rememberIds: 2_000_000 });

/** Throws a RangeError unless the name is one that a log may have. */
export function checkLogName(name: string): void {
	if (!LOG_NAME.test(name)) throw new RangeError(`a log's name matches ${LOG_NAME.source}`);
}

/** Throws a RangeError unless the batch keeps the port's limits. Returns about how many bytes it stores. */
export function checkAppend(records: readonly LogRecord[]): number {
	if (records.length < 1 || records.length > LOG_LIMITS.appendRecords) {
		throw new RangeError(`an append has 1 to ${LOG_LIMITS.appendRecords} records`);
	}
	let bytes = 0;
	for (const record of records) {
		const id = checkText(record.id, LOG_LIMITS.idBytes);
		if (id === 0) throw new RangeError(`a record's id is well formed and has 1 to ${LOG_LIMITS.idBytes} bytes`);
		const topic = checkText(record.topic, LOG_LIMITS.topicBytes);
		if (topic === 0) throw new RangeError(`a topic is well formed and has 1 to ${LOG_LIMITS.topicBytes} bytes`);
		bytes += id + topic + record.bytes.byteLength;
	}
	return bytes;
}

/** Throws a RangeError unless the page asked for is a bounded one. */
export function checkRead(query: LogRead): void {
	if (!Number.isInteger(query.maxRecords) || query.maxRecords < 1 || query.maxRecords > LOG_LIMITS.pageRecords) {
		throw new RangeError(`a page has 1 to ${LOG_LIMITS.pageRecords} records`);
	}
	if (!(query.maxBytes > 0)) throw new RangeError("a page has room for bytes");
	const from = "sequence" in query.from ? query.from.sequence : query.from.time;
	if (!Number.isFinite(from)) throw new RangeError("a read starts at a finite sequence or time");
}

/** About how many bytes the text has, or 0 where it has none, too many, or no UTF-8 form. */
function checkText(text: string, maxBytes: number): number {
	const { length } = text;
	if (length === 0 || length > maxBytes) return 0;
	if (length * 3 > maxBytes && Buffer.byteLength(text) > maxBytes) return 0;
	return text.isWellFormed() ? length : 0;
}
