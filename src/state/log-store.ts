/**
 * An append-only sequence of records. Events are one log, denials another.
 *
 * Guarantees, quoted by the contract suite:
 *
 * - LOG-1 `append` takes 1 to 1,000 records: all are stored or none; those that are new get consecutive sequences in the
 *   order given; it settles after one durable flush (where the log is durable), which it shares with every append in
 *   flight.
 * - LOG-2 A record whose id is stored within the window of remembered ids is not stored again: its original position is
 *   returned, and its neighbours are stored. This holds across restarts and between appends in flight. The window ends by
 *   age or by count, whichever is shorter, both fixed when the log is opened; and where the record itself is trimmed.
 * - LOG-3 No reader and no tail sees a record that a crash could lose.
 * - LOG-4 `tail` listeners get every flushed batch once, in order, from the moment they are attached.
 * - LOG-5 `read` goes forward or backward from a sequence or a time. A page is bounded by records and bytes and says where
 *   the next begins. With `topics` a backend may skip what does not match, and may over-return.
 * - LOG-6 Sequences start at 1, never repeat and never step back under one `epoch`; a log that restarts its numbering has
 *   another epoch.
 * - LOG-7 `bounds` may move by itself as records are trimmed; a read below the first sequence starts at the first.
 * - LOG-8 Record times never decrease along the log, even where the machine's clock steps back.
 */
export interface LogStore {
	readonly capabilities: LogCapabilities;
	/** LOG-6. At most 32 characters of `[A-Za-z0-9_-]`. */
	readonly epoch: string;
	/** LOG-7. */
	bounds(): LogBounds;
	/** LOG-1, LOG-2. Rejects with `StorageError`; `outcome: "unknown"` is settled by repeating the same ids. */
	append(records: readonly LogRecord[]): Promise<readonly LogAppended[]>;
	/** LOG-5. */
	read(query: LogRead): Promise<LogPage>;
	/** LOG-4. The listener must not throw and must return at once. */
	tail(listener: (batch: readonly StoredRecord[]) => void): Disposable;
	/** Drops the oldest records beyond any of the bounds given. What it drops is whole blocks: slightly more may be kept. */
	trim(retention: LogRetention): Promise<void>;
}

export interface LogCapabilities {
	readonly durable: boolean;
	readonly shared: boolean;
}

export interface LogRecord {
	/** 1 to 128 bytes. Remembered for LOG-2 unless `remember` is false (an id that this process made up and nobody can repeat). */
	readonly id: string;
	readonly remember?: boolean;
	/** What `read` may be narrowed by: tokens joined by `.`, at most 1,039 bytes (16 tokens of 64). */
	readonly topic: string;
	/** Must not change until the append has settled; in a stored record, never. May be a view into a larger buffer. */
	readonly bytes: Uint8Array;
}

export interface StoredRecord extends LogRecord {
	readonly sequence: number;
	/** Milliseconds since the Unix epoch, assigned by the log (LOG-8). */
	readonly time: number;
}

export interface LogAppended {
	readonly sequence: number;
	readonly time: number;
	/** LOG-2: the id was stored before; `sequence` and `time` are the original's. */
	readonly duplicate: boolean;
}

export interface LogBounds {
	/** The lowest sequence still held; equals `next` when the log is empty. */
	readonly first: number;
	/** The sequence that the next record will get. */
	readonly next: number;
	/** Bytes held, approximately. */
	readonly bytes: number;
}

export interface LogRead {
	/**
	 * Where the read starts. A time means, forward, the first record not before it; backward, the last record not after it.
	 */
	readonly from: { readonly sequence: number } | { readonly time: number };
	readonly direction?: "forward" | "backward";
	/** Narrowing by topic; records that fail it may still be returned. A page may be empty while `next` moves on. */
	readonly topics?: TopicFilter;
	/** 1 to 1,000. */
	readonly maxRecords: number;
	/** About how many bytes of records a page may hold; at least one record is returned where any is. */
	readonly maxBytes: number;
}

/** What a reader is interested in. A backend uses `exact` for its index, or else may ask `matches`. */
export interface TopicFilter {
	/** The complete list of topics wanted, where it is finite. */
	readonly exact?: readonly string[];
	matches(topic: string): boolean;
}

export interface LogPage {
	readonly records: readonly StoredRecord[];
	/** Where the next page begins: forward, one past the last sequence examined; backward, one before it (0: nothing is left). */
	readonly next: number;
	/** The bounds as of this read, so that a reader can tell that it was overtaken by a trim. */
	readonly bounds: LogBounds;
}

export interface LogRetention {
	readonly maxAgeMs?: number;
	readonly maxRecords?: number;
	readonly maxBytes?: number;
}

export interface LogOptions {
	/** LOG-2: how long ids are remembered. Default 2 minutes. */
	readonly rememberMs?: number;
	/** LOG-2: how many ids are remembered. Default 2,000,000. */
	readonly rememberIds?: number;
}

export const LOG_LIMITS = Object.freeze({ appendRecords: 1000, idBytes: 128, topicBytes: 1039, pageRecords: 1000 });
