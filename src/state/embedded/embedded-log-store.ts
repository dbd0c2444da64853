import type { Clock } from "../../clock/clock.ts";
import { IdWindow } from "../id-window.ts";
import { StorageError } from "../kv-store.ts";
import { readPage } from "../log-page.ts";
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
import { BlockReader } from "./block-reader.ts";
import type { Environment } from "./environment.ts";
import { GROUP_BYTES, type GroupParticipant, type GroupWriter } from "./group-writer.ts";
import { LogGroup } from "./log-group.ts";
import { LogKeys } from "./log-keys.ts";
import { type LogIdentity, type LogState, readLogState, writeLogState } from "./log-state.ts";
import { StoredIds } from "./stored-ids.ts";
import { TopicIndex } from "./topic-index.ts";

/** New records in one group at most, so that the loop is not held up for long. */
const GROUP_RECORDS = 20_000;
/** What may wait for the disk; more is refused. */
const MAX_WAITING = 100_000;
const MAX_WAITING_BYTES = 256 * 1024 * 1024;
/** Blocks that one group drops at most. */
const TRIM_BLOCKS = 64;

interface Append {
	readonly records: readonly LogRecord[];
	readonly bytes: number;
	readonly resolve: (appended: readonly LogAppended[]) => void;
	readonly reject: (error: unknown) => void;
}

interface Trim {
	readonly retention: LogRetention;
	readonly resolve: () => void;
	readonly reject: (error: unknown) => void;
}

/** What the group in hand does to the log. */
interface InHand {
	readonly group: LogGroup;
	readonly appends: readonly { readonly append: Append; readonly appended: readonly LogAppended[] }[];
	readonly trims: readonly Trim[];
	/** Whether the trims have nothing more to drop. */
	readonly trimmed: boolean;
	readonly state: LogState;
}

/** A LogStore on LMDB: blocks of records, an index of topics to blocks, and the hashes of the remembered ids. */
export class EmbeddedLogStore implements LogStore, GroupParticipant {
	readonly capabilities: LogCapabilities = Object.freeze({ durable: true, shared: false });
	readonly #environment: Environment;
	readonly #writer: GroupWriter;
	readonly #clock: Clock;
	readonly #identity: LogIdentity;
	readonly #options: Required<LogOptions>;
	readonly #keys: LogKeys;
	readonly #index: TopicIndex;
	readonly #ids: IdWindow;
	readonly #storedIds: StoredIds;
	readonly #tails = new TailListeners();
	/** As of the last flush that was told. */
	#state: LogState;
	#appends: Append[] = [];
	#waitingBytes = 0;
	#trims: Trim[] = [];
	#inHand: InHand | undefined;

	constructor(
		environment: Environment,
		writer: GroupWriter,
		clock: Clock,
		identity: LogIdentity,
		options: Required<LogOptions>,
	) {
		this.#environment = environment;
		this.#writer = writer;
		this.#clock = clock;
		this.#identity = identity;
		this.#options = options;
		this.#keys = new LogKeys(identity.number);
		this.#index = new TopicIndex(environment, this.#keys);
		this.#state = readLogState(environment.meta, identity.number);
		this.#ids = new IdWindow({ maxIds: options.rememberIds, maxAgeMs: options.rememberMs });
		this.#storedIds = new StoredIds(environment, this.#keys, options);
		this.#storedIds.load(this.#ids, this.#now());
	}

	get epoch(): string {
		return this.#identity.epoch;
	}

	bounds(): LogBounds {
		const { first, next, bytes } = this.#state;
		return { first, next, bytes };
	}

	append(records: readonly LogRecord[]): Promise<readonly LogAppended[]> {
		return new Promise((resolve, reject) => {
			const bytes = checkAppend(records);
			this.#refuseIfStopped();
			if (this.#appends.length >= MAX_WAITING || this.#waitingBytes + bytes > MAX_WAITING_BYTES) {
				throw new StorageError("unavailable", "not-written", "too many appends wait for the disk");
			}
			this.#appends.push({ records, bytes, resolve, reject });
			this.#waitingBytes += bytes;
			this.#writer.request(this);
		});
	}

	async read(query: LogRead): Promise<LogPage> {
		checkRead(query);
		return readPage(query, this.#reader(this.#boundsToRead()));
	}

	tail(listener: (batch: readonly StoredRecord[]) => void): Disposable {
		return this.#tails.add(listener);
	}

	trim(retention: LogRetention): Promise<void> {
		return new Promise((resolve, reject) => {
			this.#refuseIfStopped();
			this.#trims.push({ retention, resolve, reject });
			this.#writer.request(this);
		});
	}

	/** Ends the tails. */
	close(): void {
		this.#tails.clear();
	}

	write(): void {
		const time = this.#now();
		this.#ids.mark(time);
		const reader = this.#reader(this.bounds());
		const group = new LogGroup({
			ids: this.#ids,
			seed: this.#identity.seed,
			first: this.#state.next,
			time,
			remembered: (sequence, id) => this.#remembered(reader, sequence, id, time),
		});
		const appends = this.#take().map((append) => ({ append, appended: group.add(append.records) }));
		const written = this.#writeBlocks(group, time);
		const trims = this.#trims;
		this.#trims = [];
		const { state, done } = this.#drop(trims, written);
		if (state !== this.#state) writeLogState(this.#environment.meta, this.#identity.number, state);
		this.#inHand = { group, appends, trims, trimmed: done, state };
	}

	flushed(): void {
		const inHand = this.#inHand!;
		this.#inHand = undefined;
		this.#state = inHand.state;
		this.#storedIds.flushed();
		if (inHand.trimmed) for (const trim of inHand.trims) trim.resolve();
		else this.#trims = [...inHand.trims, ...this.#trims];
		this.#requestMore();
		if (this.#tails.size > 0) this.#tails.offer(inHand.group.stored());
		for (const { append, appended } of inHand.appends) append.resolve(appended);
	}

	failed(error: StorageError): void {
		const inHand = this.#inHand;
		this.#inHand = undefined;
		if (inHand) {
			this.#ids.dropNewest(inHand.group.hashes.length);
			this.#storedIds.failed();
			for (const { append } of inHand.appends) append.reject(error);
			for (const trim of inHand.trims) trim.reject(error);
		}
		if (this.#writer.stopped?.kind === "fatal") {
			const refused = new StorageError("fatal", "not-written", error.message, error.cause);
			for (const { reject } of [...this.#appends, ...this.#trims]) reject(refused);
			this.#appends = [];
			this.#waitingBytes = 0;
			this.#trims = [];
		}
		this.#requestMore();
	}

	#take(): readonly Append[] {
		let taken = 0;
		let bytes = 0;
		let records = 0;
		while (taken < this.#appends.length && bytes < GROUP_BYTES && records < GROUP_RECORDS) {
			bytes += this.#appends[taken]!.bytes;
			records += this.#appends[taken++]!.records.length;
		}
		this.#waitingBytes -= bytes;
		const all = taken === this.#appends.length;
		const took = all ? this.#appends : this.#appends.slice(0, taken);
		this.#appends = all ? [] : this.#appends.slice(taken);
		return took;
	}

	#writeBlocks(group: LogGroup, time: number): LogState {
		const state = this.#state;
		if (group.next === state.next) return state;
		let { bytes } = state;
		const blocksByTopic = new Map<string, number[]>();
		for (const block of group.encode()) {
			this.#environment.blocks.put(this.#keys.at(block.first), block.bytes);
			bytes += block.bytes.byteLength;
			for (const topic of block.topics) {
				const blocks = blocksByTopic.get(topic);
				if (blocks) blocks.push(block.first);
				else blocksByTopic.set(topic, [block.first]);
			}
		}
		this.#index.write(blocksByTopic);
		this.#storedIds.write(state.next, time, group.hashes);
		return { first: state.first, next: group.next, bytes, time };
	}

	/** In the transaction: drops the oldest blocks that any of the trims wants dropped. */
	#drop(trims: readonly Trim[], start: LogState): { readonly state: LogState; readonly done: boolean } {
		if (trims.length === 0) return { state: start, done: true };
		const now = this.#clock.now();
		const reader = this.#reader(start);
		let state = start;
		for (let dropped = 0; dropped < TRIM_BLOCKS; dropped++) {
			const block = state.first < state.next ? reader.holding(state.first) : undefined;
			if (block === undefined) return { state, done: true };
			const { first, count, byteLength, time, topics } = block;
			const beyond = ({ retention: { maxAgeMs, maxRecords, maxBytes } }: Trim): boolean =>
				(maxAgeMs !== undefined && time < now - maxAgeMs) ||
				(maxRecords !== undefined && state.next - (first + count) >= maxRecords) ||
				(maxBytes !== undefined && state.bytes - byteLength >= maxBytes);
			if (!trims.some(beyond)) return { state, done: true };
			this.#index.remove(topics, first);
			this.#environment.blocks.remove(this.#keys.at(first));
			state = { ...state, first: first + count, bytes: state.bytes - byteLength };
		}
		return { state, done: false };
	}

	#remembered(reader: BlockReader, sequence: number, id: string, now: number): number | undefined {
		const block = reader.holding(sequence);
		if (block === undefined || block.id(sequence - block.first) !== id) return undefined;
		return now - block.time < this.#options.rememberMs ? block.time : undefined;
	}

	#requestMore(): void {
		if (this.#appends.length > 0 || this.#trims.length > 0) this.#writer.request(this);
	}

	#refuseIfStopped(): void {
		const { stopped } = this.#writer;
		if (stopped) throw new StorageError(stopped.kind, "not-written", stopped.message, stopped.cause);
	}

	/**
	 * A trim is on the disk a little before it is told. What it dropped must not look like the end of the log to a read in
	 * between, so the first sequence is that of the snapshot; the last stays what was told (LOG-3).
	 */
	#boundsToRead(): LogBounds {
		const told = this.bounds();
		const { first } = readLogState(this.#environment.meta, this.#identity.number);
		return first > told.first ? { ...told, first: Math.min(first, told.next) } : told;
	}

	#reader(bounds: LogBounds): BlockReader {
		return new BlockReader(this.#environment, this.#keys, this.#index, bounds);
	}

	/** LOG-8. */
	#now(): number {
		return Math.max(this.#state.time, Math.floor(this.#clock.now()));
	}
}
