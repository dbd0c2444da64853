import type { Clock, Timer } from "../clock/clock.ts";
import type { LogStore, StoredRecord } from "../state/log-store.ts";
import type { Pattern } from "../subjects/pattern.ts";
import { PatternTrie } from "../subjects/pattern-trie.ts";
import { EventBlock } from "./event-block.ts";

/** Who gets live events. Neither method may throw. */
export interface Recipient {
	/** Higher is served first. */
	readonly priority: number;
	/** Notes the event for the next `flush`; true for the first since the last one. */
	collect(block: EventBlock, index: number): boolean;
	/** Hands what was collected to the reader. */
	flush(): void;
}

/** A block is kept whole for as long as one of its events waits for anyone, so it is small. */
const BLOCK_BYTES = 64 * 1024;
const RETRY_MS = 250;
const READ_RECORDS = 1000;
const READ_BYTES = 1024 * 1024;

export interface TailPumpOptions {
	readonly log: LogStore;
	readonly clock: Clock;
	/** Told of a failed read of the log; the pump tries again a little later. */
	readonly onFault: (error: unknown) => void;
}

/**
 * The process's one way from the log to live subscriptions. The log offers every flushed batch; the pump takes it where it
 * begins exactly at its next position, and otherwise drops it and reads the log, so nothing is skipped and nothing comes
 * twice. Each event is encoded once, and only where somebody wants it.
 */
export class TailPump implements Disposable {
	readonly #log: LogStore;
	readonly #clock: Clock;
	readonly #onFault: (error: unknown) => void;
	readonly #trie = new PatternTrie<Recipient>();
	#next: number;
	/** One past the last sequence that the log has offered. */
	#offered = 0;
	#tail: Disposable | undefined;
	#reading = false;
	#retry: Timer | undefined;

	constructor(options: TailPumpOptions) {
		this.#log = options.log;
		this.#clock = options.clock;
		this.#onFault = options.onFault;
		this.#next = options.log.bounds().next;
	}

	/** The sequence that will be dispatched next; all below it were. */
	get position(): number {
		return this.#next;
	}

	/** Pairs of pattern and recipient attached. */
	get size(): number {
		return this.#trie.size;
	}

	start(): void {
		if (this.#tail !== undefined) return;
		this.#next = this.#log.bounds().next;
		this.#tail = this.#log.tail((batch) => this.#take(batch));
	}

	/** From now on the recipient gets every event from `position` on that any of the patterns matches, once. */
	attach(patterns: readonly Pattern[], recipient: Recipient): Disposable {
		const filed = patterns.map((pattern) => this.#trie.add(pattern, recipient));
		return {
			[Symbol.dispose]: () => {
				for (const entry of filed) entry[Symbol.dispose]();
			},
		};
	}

	[Symbol.dispose](): void {
		this.#tail?.[Symbol.dispose]();
		this.#tail = undefined;
		this.#retry?.cancel();
	}

	#take(batch: readonly StoredRecord[]): void {
		this.#offered = Math.max(this.#offered, batch.at(-1)!.sequence + 1);
		if (!this.#reading && batch[0]!.sequence === this.#next) this.#dispatch(batch, this.#offered);
		else this.#resume();
	}

	#resume(): void {
		if (!this.#reading && this.#next < this.#offered) void this.#catchUp();
	}

	/** Reads what was offered out of turn. */
	async #catchUp(): Promise<void> {
		this.#reading = true;
		try {
			while (this.#tail !== undefined && this.#next < this.#offered) {
				const from = { sequence: this.#next };
				const page = await this.#log.read({ from, maxRecords: READ_RECORDS, maxBytes: READ_BYTES });
				if (page.next <= this.#next) break;
				this.#dispatch(page.records, page.next);
			}
		} catch (error) {
			this.#onFault(error);
			// A batch may have made it read before the retry was due.
			this.#retry?.cancel();
			if (this.#tail !== undefined) this.#retry = this.#clock.after(RETRY_MS, () => this.#resume());
		} finally {
			this.#reading = false;
		}
	}

	#dispatch(records: readonly StoredRecord[], next: number): void {
		let wanted: StoredRecord[] = [];
		let recipients: (readonly Recipient[])[] = [];
		let bytes = 0;
		if (this.#trie.size > 0) {
			for (const record of records) {
				const matched = this.#trie.match(record.topic);
				if (matched.length === 0) continue;
				wanted.push(record);
				recipients.push(matched);
				bytes += record.bytes.byteLength;
				if (bytes < BLOCK_BYTES) continue;
				this.#deliver(wanted, recipients);
				wanted = [];
				recipients = [];
				bytes = 0;
			}
			if (wanted.length > 0) this.#deliver(wanted, recipients);
		}
		this.#next = next;
	}

	#deliver(records: readonly StoredRecord[], recipients: readonly (readonly Recipient[])[]): void {
		const block = new EventBlock(records);
		const touched: Recipient[] = [];
		let ordered = true;
		for (let index = 0; index < records.length; index++) {
			for (const recipient of recipients[index]!) {
				if (!recipient.collect(block, index)) continue;
				ordered &&= touched.length === 0 || touched.at(-1)!.priority >= recipient.priority;
				touched.push(recipient);
			}
		}
		if (!ordered) touched.sort((a, b) => b.priority - a.priority);
		for (const recipient of touched) recipient.flush();
	}
}
