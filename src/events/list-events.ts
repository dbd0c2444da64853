import { HubError } from "../hub-error.ts";
import type { LogRead, LogStore, StoredRecord, TopicFilter } from "../state/log-store.ts";
import { exactTopics, type Pattern } from "../subjects/pattern.ts";
import { lengthDelimited } from "../wire/wire-writer.ts";
import { EventBlock } from "./event-block.ts";
import { audienceOf, mayBeLifecycle } from "./lifecycle-audience.ts";
import { pageSizeOf, readPageToken, writePageToken } from "./page-token.ts";
import { isFromSource } from "./stored-event.ts";
import type { Subscriber } from "./subscriber.ts";
import { yieldTurn } from "./yield-turn.ts";

const PAGE = Object.freeze({ usual: 50, most: 1000, bytes: 1024 * 1024 });
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
	readonly pageSize: number;
	readonly pageToken: string;
}

/**
 * A page of the events that the subscriber may see, as the parts of a `ListEventsResponse` in wire form. What retention drops
 * between two pages is missing from the later one. Throws INVALID_PAGE_TOKEN.
 */
export async function listEvents(
	log: LogStore,
	subscriber: Subscriber,
	query: ListEventsQuery,
): Promise<readonly Uint8Array[]> {
	const bound = boundQuery(log, query);
	const size = pageSizeOf(query.pageSize, PAGE.usual, PAGE.most);
	const pick = picker(subscriber, query);
	const direction = query.newestFirst ? "backward" : "forward";
	const exact = exactTopics(query.patterns);
	const topics: TopicFilter = { exact, matches: (topic) => query.patterns.some((pattern) => pattern.matches(topic)) };
	const parts: Uint8Array[] = [];
	let from = query.pageToken === "" ? startOf(log, query) : { sequence: sequenceOf(bound, query.pageToken) };
	let found = 0;
	let bytes = 0;
	for (let reads = 0; reads < MAX_READS && found < size && bytes < PAGE.bytes; reads++) {
		if (reads > 0) await yieldTurn();
		const maxRecords = query.source === "" ? size - found : PAGE.most;
		const page = await log.read({ from, direction, topics, maxRecords, maxBytes: PAGE.bytes });
		const picked: StoredRecord[] = [];
		let next = page.next;
		let isPast = false;
		for (const record of page.records) {
			if (isBeyond(record, query)) {
				isPast = true;
				break;
			}
			if (!topics.matches(record.topic) || !pick(record)) continue;
			if (found === size || (found > 0 && bytes + record.bytes.byteLength > PAGE.bytes)) {
				next = record.sequence;
				bytes = PAGE.bytes;
				break;
			}
			picked.push(record);
			found++;
			bytes += record.bytes.byteLength;
		}
		if (picked.length > 0) parts.push(new EventBlock(picked).entries(0, picked.length));
		const isLast = query.newestFirst ? next < page.bounds.first : next >= page.bounds.next;
		if (isPast || isLast) return [...parts, lengthDelimited(3, Buffer.from(log.epoch))];
		from = { sequence: next };
	}
	const token = writePageToken(bound, String("sequence" in from ? from.sequence : 0));
	return [...parts, lengthDelimited(2, Buffer.from(token)), lengthDelimited(3, Buffer.from(log.epoch))];
}

/** Everything that must stay the same from page to page. */
function boundQuery(log: LogStore, query: ListEventsQuery): string {
	const { patterns, source, startTime, endTime, newestFirst } = query;
	const spellings = patterns.map((pattern) => pattern.canonical);
	return JSON.stringify(["events", log.epoch, spellings, source, startTime ?? "", endTime ?? "", newestFirst]);
}

function startOf(log: LogStore, query: ListEventsQuery): LogRead["from"] {
	if (query.newestFirst) {
		return query.endTime === undefined ? { sequence: Math.max(log.bounds().next - 1, 0) } : { time: query.endTime };
	}
	return query.startTime === undefined ? { sequence: log.bounds().first } : { time: query.startTime };
}

function sequenceOf(bound: string, token: string): number {
	const sequence = Number(readPageToken(bound, token));
	if (Number.isSafeInteger(sequence) && sequence >= 0) return sequence;
	throw HubError.field("page_token", "is not of an answer to this request", "INVALID_PAGE_TOKEN");
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
