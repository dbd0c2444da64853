import type { LogRead, LogStore, StoredRecord, TopicFilter } from "../state/log-store.ts";
import { exactTopics, type Pattern } from "../subjects/pattern.ts";
import { EventBlock } from "./event-block.ts";
import { audienceOf, mayBeLifecycle } from "./lifecycle-audience.ts";
import { isFromSource } from "./stored-event.ts";
import type { Subscriber } from "./subscriber.ts";
import { yieldTurn } from "./yield-turn.ts";

const PAGE_BYTES = 1024 * 1024;
/** Records that one read of the log gives at most. */
const READ_RECORDS = 1000;
/** Reads of the log that one page may cost; a page that ends for it is short and not the last. */
const MAX_READS = 8;

/** A question about history, checked. Times in milliseconds since the Unix epoch. */
export interface ListEventsQuery {
	readonly patterns: readonly Pattern[];
	/** Only events of this source; empty: any. */
	readonly source: string;
	/** Only events stored at this time or later. */
	readonly startTime: number | undefined;
	/** Only events stored before this time. */
	readonly endTime: number | undefined;
	readonly newestFirst: boolean;
	/** Events of the page, at most. */
	readonly limit: number;
	/** `EventPage.next` of the page before; undefined: the first page. */
	readonly next: number | undefined;
}

export interface EventPage {
	/** Runs of encoded entries of a `repeated Event events = 1` field. */
	readonly entries: readonly Uint8Array[];
	/** Where the next page begins; undefined: this was the last. */
	readonly next: number | undefined;
}

/**
 * A page of the events that the subscriber may see. It also ends at 1 MiB. What retention drops between two pages is
 * missing from the later one.
 */
export async function listEvents(log: LogStore, subscriber: Subscriber, query: ListEventsQuery): Promise<EventPage> {
	const { limit } = query;
	const pick = picker(subscriber, query);
	const direction = query.newestFirst ? "backward" : "forward";
	const exact = exactTopics(query.patterns);
	const topics: TopicFilter = { exact, matches: (topic) => query.patterns.some((pattern) => pattern.matches(topic)) };
	const entries: Uint8Array[] = [];
	let from = query.next === undefined ? startOf(log, query) : { sequence: query.next };
	let found = 0;
	let bytes = 0;
	for (let reads = 0; reads < MAX_READS && found < limit && bytes < PAGE_BYTES; reads++) {
		if (reads > 0) await yieldTurn();
		const maxRecords = query.source === "" ? limit - found : READ_RECORDS;
		const page = await log.read({ from, direction, topics, maxRecords, maxBytes: PAGE_BYTES });
		const picked: StoredRecord[] = [];
		let next = page.next;
		let isPast = false;
		for (const record of page.records) {
			if (isBeyond(record, query)) {
				isPast = true;
				break;
			}
			if (!topics.matches(record.topic) || !pick(record)) continue;
			if (found === limit || (found > 0 && bytes + record.bytes.byteLength > PAGE_BYTES)) {
				next = record.sequence;
				bytes = PAGE_BYTES;
				break;
			}
			picked.push(record);
			found++;
			bytes += record.bytes.byteLength;
		}
		if (picked.length > 0) entries.push(new EventBlock(picked).entries(0, picked.length));
		const isLast = query.newestFirst ? next < page.bounds.first : next >= page.bounds.next;
		if (isPast || isLast) return { entries, next: undefined };
		from = { sequence: next };
	}
	return { entries, next: "sequence" in from ? from.sequence : 0 };
}

function startOf(log: LogStore, query: ListEventsQuery): LogRead["from"] {
	if (query.newestFirst) {
		return query.endTime === undefined ? { sequence: Math.max(log.bounds().next - 1, 0) } : { time: query.endTime };
	}
	return query.startTime === undefined ? { sequence: log.bounds().first } : { time: query.startTime };
}

/** Whether the record and all that would be read after it are outside the time asked for. */
function isBeyond(record: StoredRecord, query: ListEventsQuery): boolean {
	return query.newestFirst
		? query.startTime !== undefined && record.time < query.startTime
		: query.endTime !== undefined && record.time >= query.endTime;
}

function picker(subscriber: Subscriber, query: ListEventsQuery): (record: StoredRecord) => boolean {
	const source = Buffer.from(query.source);
	return (record) => {
		if (query.startTime !== undefined && record.time < query.startTime) return false;
		if (query.endTime !== undefined && record.time >= query.endTime) return false;
		if (query.source !== "" && !isFromSource(record.bytes, source)) return false;
		if (!mayBeLifecycle(record.topic)) return true;
		return audienceOf(record)?.admits(subscriber) ?? true;
	};
}
