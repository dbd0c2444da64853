import type { Clock } from "../../clock/clock.ts";
import { IdWindow } from "../id-window.ts";
import { StorageError } from "../kv-store.ts";
import { type LogBlock, type LogBlocks, readPage } from "../log-page.ts";
import { checkAppend, checkRead } from "../log-rules.ts";
import type {
	LogAppended,
	LogBounds,
	LogCapabilities,
	LogOptions,
	LogPage,
	LogRead,
	LogRecord,
	LogRetention,
	LogStore,
	StoredRecord,
} from "../log-store.ts";
import { TailListeners } from "../tail-listeners.ts";
import { hashText } from "../text-hash.ts";

const SEGMENT_RECORDS = 256;
const SEGMENT_BYTES = 64 * 1024;
/** What a record takes beyond its own bytes, so that retention by bytes bounds a log of empty records. */
const RECORD_OVERHEAD = 64;

/** A run of records; what `trim` drops is whole segments. */
class Segment implements LogBlock {
	readonly first: number;
	readonly records: StoredRecord[] = [];
	readonly topics = new Set<string>();
	bytes = 0;

	constructor(first: number) {
		this.first = first;
	}

	get count(): number {
		return this.records.length;
	}

	get lastTime(): number {
		return this.records.at(-1)!.time;
	}

	topic(index: number): string {
		return this.records[index]!.topic;
	}

	record(index: number): StoredRecord {
		return this.records[index]!;
	}
}

/** A LogStore that ends with the process. A batch is stored and told to the tails before `append` returns its promise. */
export class MemoryLogStore implements LogStore, LogBlocks {
	readonly capabilities: LogCapabilities = Object.freeze({ durable: false, shared: false });
	readonly epoch: string;
	readonly #clock: Clock;
	readonly #options: Required<LogOptions>;
	/** Makes the hash of an id unpredictable to whoever chooses ids. */
	readonly #seed: number;
	readonly #ids: IdWindow;
	readonly #tails = new TailListeners();
	/** In order, none of them empty; appends fill the last. */
	#segments: Segment[] = [];
	#next = 1;
	#bytes = 0;
	#time = 0;
	#closed = false;

	constructor(clock: Clock, epoch: string, seed: number, options: Required<LogOptions>) {
		this.#clock = clock;
		this.epoch = epoch;
		this.#seed = seed;
		this.#options = options;
		this.#ids = new IdWindow({ maxIds: options.rememberIds, maxAgeMs: options.rememberMs });
	}

	bounds(): LogBounds {
		return { first: this.#segments[0]?.first ?? this.#next, next: this.#next, bytes: this.#bytes };
	}

	async append(records: readonly LogRecord[]): Promise<readonly LogAppended[]> {
		checkAppend(records);
		if (this.#closed) throw new StorageError("unavailable", "not-written", "the log is closed");
		this.#time = Math.max(this.#time, Math.floor(this.#clock.now()));
		this.#ids.mark(this.#time);
		const stored: StoredRecord[] = [];
		const appended = records.map((record) => this.#appendOne(record, stored));
		this.#tails.offer(stored);
		return appended;
	}

	async read(query: LogRead): Promise<LogPage> {
		checkRead(query);
		return readPage(query, this);
	}

	tail(listener: (batch: readonly StoredRecord[]) => void): Disposable {
		return this.#tails.add(listener);
	}

	async trim(retention: LogRetention): Promise<void> {
		const { maxAgeMs, maxRecords, maxBytes } = retention;
		const oldest = maxAgeMs === undefined ? Number.NEGATIVE_INFINITY : this.#clock.now() - maxAgeMs;
		let dropped = 0;
		for (const segment of this.#segments) {
			const beyond =
				segment.lastTime < oldest ||
				(maxRecords !== undefined && this.#next - (segment.first + segment.count) >= maxRecords) ||
				(maxBytes !== undefined && this.#bytes - segment.bytes >= maxBytes);
			if (!beyond) break;
			this.#bytes -= segment.bytes;
			dropped++;
		}
		if (dropped > 0) this.#segments = this.#segments.slice(dropped);
	}

	find(sequence: number, direction: "forward" | "backward", exact?: readonly string[]): LogBlock | undefined {
		const step = direction === "forward" ? 1 : -1;
		for (let at = this.#segmentOf(sequence); at >= 0 && at < this.#segments.length; at += step) {
			const segment = this.#segments[at]!;
			if (exact === undefined || exact.some((topic) => segment.topics.has(topic))) return segment;
		}
		return undefined;
	}

	seek(time: number): number {
		const at = partition(this.#segments, (segment) => segment.lastTime < time);
		const segment = this.#segments[at];
		if (segment === undefined) return this.#next;
		return segment.first + partition(segment.records, (record) => record.time < time);
	}

	/** Ends the tails; what follows is refused. */
	close(): void {
		this.#closed = true;
		this.#tails.clear();
	}

	#appendOne(record: LogRecord, stored: StoredRecord[]): LogAppended {
		const { id, topic } = record;
		const remember = record.remember !== false;
		const hash = remember ? hashText(id, this.#seed) : undefined;
		if (hash) {
			const sequence = this.#ids.find(hash, (candidate) => this.#holds(candidate, id));
			if (sequence !== undefined) return { sequence, time: this.#recordAt(sequence)!.time, duplicate: true };
		}
		const sequence = this.#next++;
		// A copy, because the caller may use its buffer again and a record stays valid for ever.
		const kept: StoredRecord = { id, topic, bytes: record.bytes.slice(), sequence, time: this.#time };
		this.#store(kept);
		stored.push(kept);
		if (hash) this.#ids.add(hash, sequence);
		return { sequence, time: this.#time, duplicate: false };
	}

	#store(record: StoredRecord): void {
		const size = record.bytes.byteLength + record.id.length + record.topic.length + RECORD_OVERHEAD;
		let segment = this.#segments.at(-1);
		const full = segment && (segment.count >= SEGMENT_RECORDS || segment.bytes >= SEGMENT_BYTES);
		if (segment === undefined || full) {
			segment = new Segment(record.sequence);
			this.#segments.push(segment);
		}
		segment.records.push(record);
		segment.topics.add(record.topic);
		segment.bytes += size;
		this.#bytes += size;
	}

	#holds(sequence: number, id: string): boolean {
		const record = this.#recordAt(sequence);
		return record?.id === id && this.#time - record.time < this.#options.rememberMs;
	}

	#recordAt(sequence: number): StoredRecord | undefined {
		const segment = this.#segments[this.#segmentOf(sequence)];
		return segment?.records[sequence - segment.first];
	}

	/** The index of the segment that holds the sequence; -1 below the first, the last one past the end. */
	#segmentOf(sequence: number): number {
		return partition(this.#segments, (segment) => segment.first <= sequence) - 1;
	}
}

/** The index of the first item for which `before` is false; it is true for every one ahead of that. */
function partition<T>(items: readonly T[], before: (item: T) => boolean): number {
	let low = 0;
	let high = items.length;
	while (low < high) {
		const middle = (low + high) >>> 1;
		if (before(items[middle]!)) low = middle + 1;
		else high = middle;
	}
	return low;
}
