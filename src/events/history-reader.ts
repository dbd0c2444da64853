import { HubError } from "../hub-error.ts";
import type { LogStore, TopicFilter } from "../state/log-store.ts";
import { exactTopics, type Pattern } from "../subjects/pattern.ts";
import type { Run } from "./batch-builder.ts";
import { EventBlock } from "./event-block.ts";

const READ_RECORDS = 512;
const READ_BYTES = 256 * 1024;

export interface HistoryReaderOptions {
	readonly log: LogStore;
	readonly patterns: readonly Pattern[];
	/** Events stored below this sequence are marked as replayed. */
	readonly replayBelow: number;
	/** Whether what is missing at the first sequence asked for is a gap already. */
	readonly exactStart: boolean;
	/** Told of a gap, with the first sequence that is left; reading then goes on there. Default: a gap is SLOW_CONSUMER. */
	readonly onGap?: (first: number) => void;
}

/** A stretch of history. */
export interface History {
	/** The events that match; undefined where there are none. */
	readonly run: Run | undefined;
	/** The sequence that follows the stretch. */
	readonly next: number;
}

/** Reads what one subscription wants from the log, a page at a time, and notices when retention was faster. */
export class HistoryReader {
	readonly #log: LogStore;
	readonly #topics: TopicFilter;
	readonly #replayBelow: number;
	/** Until the first page was read, what asked for the oldest events takes those that are left. */
	#isGapless: boolean;
	readonly #onGap: (first: number) => void;

	constructor(options: HistoryReaderOptions) {
		const { log, patterns } = options;
		this.#log = log;
		this.#replayBelow = options.replayBelow;
		this.#isGapless = options.exactStart;
		this.#onGap = options.onGap ?? refuseGap;
		const matches = (topic: string) => patterns.some((pattern) => pattern.matches(topic));
		this.#topics = { exact: exactTopics(patterns), matches };
	}

	/** A page of `[from, end)`, `from` below `end`. What `onGap` throws where events from `from` on are no longer kept. */
	async read(from: number, end: number): Promise<History> {
		const page = await this.#log.read({
			from: { sequence: from },
			topics: this.#topics,
			maxRecords: READ_RECORDS,
			maxBytes: READ_BYTES,
		});
		if (this.#isGapless && page.bounds.first > from) this.#onGap(page.bounds.first);
		this.#isGapless = true;
		const wanted = page.records.filter((record) => record.sequence < end && this.#topics.matches(record.topic));
		const next = Math.max(from, Math.min(page.next, end));
		if (wanted.length === 0) return { run: undefined, next };
		return { run: { block: new EventBlock(wanted, this.#replayBelow), from: 0, to: wanted.length }, next };
	}
}

function refuseGap(): never {
	throw new HubError("SLOW_CONSUMER", "events that were not delivered yet are no longer kept");
}
