import type { LogBounds, LogPage, LogRead, StoredRecord } from "./log-store.ts";

/** A run of consecutive records that are stored together. */
export interface LogBlock {
	/** The sequence of the first record. */
	readonly first: number;
	readonly count: number;
	topic(index: number): string;
	record(index: number): StoredRecord;
}

/** Where `readPage` finds blocks. All calls of one page happen in one turn. */
export interface LogBlocks {
	bounds(): LogBounds;
	/**
	 * The nearest block from `sequence` on (or back) that holds a record at or past it, and, with `exact`, may hold one of
	 * those topics.
	 */
	find(sequence: number, direction: "forward" | "backward", exact?: readonly string[]): LogBlock | undefined;
	/** The sequence of the first record not before `time`; the next sequence where there is none. */
	seek(time: number): number;
}

/** What a record counts for beyond its bytes, so that a page of empty records is bounded too. */
const RECORD_OVERHEAD = 64;
/** Records that one page may look at, so that a rare topic does not hold up the process. */
const MAX_EXAMINED = 50_000;

/** LOG-5 and LOG-7 over blocks. */
export function readPage(query: LogRead, blocks: LogBlocks): LogPage {
	const bounds = blocks.bounds();
	const forward = query.direction !== "backward";
	const step = forward ? 1 : -1;
	let at = startOf(query, blocks, bounds);
	const accepts = query.topics === undefined ? undefined : acceptor(query.topics);
	const records: StoredRecord[] = [];
	let bytes = 0;
	let examined = 0;
	let full = false;
	while (!full && at >= bounds.first && at < bounds.next && examined < MAX_EXAMINED) {
		const block = blocks.find(at, forward ? "forward" : "backward", query.topics?.exact);
		if (block === undefined) {
			at = forward ? bounds.next : 0;
			break;
		}
		const last = block.first + block.count - 1;
		at = forward ? Math.max(at, block.first) : Math.min(at, last);
		for (; at >= block.first && at <= last && at < bounds.next; at += step) {
			const index = at - block.first;
			examined++;
			if (accepts !== undefined && !accepts(block.topic(index))) continue;
			const record = block.record(index);
			const size = record.bytes.byteLength + RECORD_OVERHEAD;
			full = records.length >= query.maxRecords || (records.length > 0 && bytes + size > query.maxBytes);
			if (full) break;
			records.push(record);
			bytes += size;
		}
	}
	return { records, next: !forward && at < bounds.first ? 0 : at, bounds };
}

function startOf(query: LogRead, blocks: LogBlocks, bounds: LogBounds): number {
	const forward = query.direction !== "backward";
	if ("sequence" in query.from) {
		const { sequence } = query.from;
		return forward ? Math.max(sequence, bounds.first) : Math.min(sequence, bounds.next - 1);
	}
	// Times are whole milliseconds, so the last record not after a time is the one before the first of the next.
	return forward ? blocks.seek(query.from.time) : blocks.seek(Math.floor(query.from.time) + 1) - 1;
}

function acceptor(topics: NonNullable<LogRead["topics"]>): (topic: string) => boolean {
	if (topics.exact !== undefined) {
		const wanted = new Set(topics.exact);
		return (topic) => wanted.has(topic);
	}
	const verdicts = new Map<string, boolean>();
	return (topic) => {
		let verdict = verdicts.get(topic);
		if (verdict === undefined) {
			verdict = topics.matches(topic);
			verdicts.set(topic, verdict);
		}
		return verdict;
	};
}
