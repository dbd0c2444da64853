import type { Clock } from "../../clock/clock.ts";
import type { EventFilter } from "../../expressions/event-filter.ts";
import { HubError } from "../../hub-error.ts";
import type { LogStore, StoredRecord } from "../../state/log-store.ts";
import type { Pattern } from "../../subjects/pattern.ts";
import type { Run } from "../batch-builder.ts";
import { EventBlock } from "../event-block.ts";
import { HistoryReader } from "../history-reader.ts";
import { LiveBuffer } from "../live-buffer.ts";
import { orderingKeyOf } from "../stored-event.ts";
import type { Subscriber } from "../subscriber.ts";
import type { TailPump } from "../tail-pump.ts";
import { yieldTurn } from "../yield-turn.ts";
import type { DurableDefinition } from "./durable-definition.ts";

/** History is read to about this far from the end before live events are buffered. */
const ATTACH_WITHIN = 1024;
const BUFFER_RUNS = 1024;
const BUFFER_BYTES = 1024 * 1024;
/** How long filters may be evaluated, in milliseconds, before others get their turn. */
const MAX_FILTER_MS = 5;
/** Bytes of events that one stretch holds, about. */
const STRETCH_BYTES = 256 * 1024;

/** What events a durable subscription is for, and how they are marked. */
export interface Selection {
	readonly subscriber: Subscriber;
	readonly patterns: readonly Pattern[];
	readonly filter: EventFilter | undefined;
	/** Events stored below this sequence are marked as replayed. */
	readonly replayBelow: number;
	readonly onFilterError: () => void;
}

/** The selection of a durable subscription; `filter` is its own, compiled. */
export function selectionOf(
	{ pluginId, patterns, began }: DurableDefinition,
	filter: EventFilter | undefined,
	onFilterError: () => void,
): Selection {
	const subscriber = { principal: `plugin:${pluginId}`, pluginId };
	return { subscriber, patterns, filter, replayBelow: began, onFilterError };
}

export interface MatchingReaderOptions {
	readonly log: LogStore;
	readonly pump: TailPump;
	readonly clock: Clock;
	readonly selection: Selection;
	/** The first sequence to read. */
	readonly from: number;
	/** Told of events that are no longer kept: those from the first sequence on and below the second. */
	readonly onGap: (from: number, first: number) => void;
}

/** An event that matches. */
export interface MatchingEvent {
	readonly sequence: number;
	/** Field 1 of an `EventDelivery`, with tag and length; a copy, so that it does not keep its neighbours in memory. */
	readonly entry: Uint8Array;
	readonly orderingKey: string;
}

/** A part of the log that was examined. */
export interface Stretch {
	readonly events: readonly MatchingEvent[];
	/** The sequence that follows it. */
	readonly next: number;
}

/**
 * Reads the events of one durable subscription in order, each once: from the log up to where live events are buffered,
 * then those; from the log again where its reader is too slow for the buffer.
 */
export class MatchingReader implements Disposable {
	readonly #options: MatchingReaderOptions;
	readonly #history: HistoryReader;
	readonly #buffer: LiveBuffer;
	#cursor: number;
	/** The run in hand, and the sequence that follows what it is of. */
	#run: Run | undefined;
	#runNext = 0;
	#attached: Disposable | undefined;
	/** The buffer has everything from here on. */
	#attachPoint = Number.POSITIVE_INFINITY;
	#toldCurrent = false;
	#closed = false;

	constructor(options: MatchingReaderOptions) {
		this.#options = options;
		this.#cursor = options.from;
		const { log, selection, onGap } = options;
		const { patterns, replayBelow } = selection;
		this.#history = new HistoryReader({
			log,
			patterns,
			replayBelow,
			exactStart: true,
			onGap: (first) => onGap(this.#cursor, first),
		});
		this.#buffer = new LiveBuffer({
			priority: 0,
			maxRuns: BUFFER_RUNS,
			maxBytes: BUFFER_BYTES,
			onOverflow: () => this.#detach(),
		});
	}

	/** Whether everything that was dispatched is below this sequence, which its reader has reached. */
	isCurrentAt(sequence: number): boolean {
		return (
			sequence >= this.#cursor && this.#cursor >= this.#attachPoint && this.#run === undefined && this.#buffer.isEmpty
		);
	}

	/**
	 * The next stretch with at most `max` events, which may be none; waits for one. One without events or progress says that
	 * the end of the log is reached. Undefined once it is disposed of.
	 */
	async read(max: number): Promise<Stretch | undefined> {
		while (!this.#closed) {
			if (this.#run !== undefined) return { events: this.#pick(this.#run, max), next: this.#cursor };
			const before = this.#cursor;
			const isHistory = await this.#fetch();
			if (this.#closed) return undefined;
			if (this.#run !== undefined) continue;
			if (this.#cursor > before) return { events: [], next: this.#cursor };
			if (isHistory) {
				await yieldTurn();
			} else if (!this.#toldCurrent) {
				this.#toldCurrent = true;
				return { events: [], next: this.#cursor };
			} else {
				await this.#wait();
			}
		}
		return undefined;
	}

	[Symbol.dispose](): void {
		if (this.#closed) return;
		this.#closed = true;
		this.#detach();
		this.#run = undefined;
		this.#buffer.end(new HubError("CANCELLED", "nobody reads any more"));
	}

	/** Looks for a run, or moves on where nothing matches. False: everything that is there was read. */
	async #fetch(): Promise<boolean> {
		const { log, pump } = this.#options;
		const { next } = log.bounds();
		if (this.#attached === undefined && next - this.#cursor <= ATTACH_WITHIN) this.#attach();
		if (this.#attached !== undefined && this.#cursor >= this.#attachPoint) {
			const run = this.#buffer.take();
			if (run !== undefined) this.#take(run, 0);
			// The pump has dispatched everything below its position, and nothing of it is waiting here.
			else if (this.#attached !== undefined) this.#cursor = Math.max(this.#cursor, pump.position);
			return false;
		}
		const end = Math.min(this.#attachPoint, next);
		if (this.#cursor >= end) return true;
		const history = await this.#history.read(this.#cursor, end);
		if (this.#closed) return true;
		if (history.run !== undefined) this.#take(history.run, history.next);
		else this.#cursor = Math.max(this.#cursor, history.next);
		return true;
	}

	#take(run: Run, next: number): void {
		this.#run = run;
		this.#runNext = next;
	}

	#attach(): void {
		const { pump, selection } = this.#options;
		this.#buffer.reopen();
		this.#attached = pump.attach(selection.patterns, this.#buffer);
		// The pump does not mark what is replayed, so that is always read from the log.
		this.#attachPoint = Math.max(pump.position, selection.replayBelow);
	}

	#detach(): void {
		this.#attached?.[Symbol.dispose]();
		this.#attached = undefined;
		this.#attachPoint = Number.POSITIVE_INFINITY;
		this.#toldCurrent = false;
	}

	async #wait(): Promise<void> {
		try {
			await this.#buffer.wait();
		} catch (error) {
			if (!this.#closed) throw error;
		}
	}

	#pick({ block, from, to }: Run, max: number): readonly MatchingEvent[] {
		const { clock, selection } = this.#options;
		const events: MatchingEvent[] = [];
		const startedAt = selection.filter === undefined ? 0 : clock.monotonic();
		let bytes = 0;
		let index = from;
		for (; index < to && events.length < max && bytes < STRETCH_BYTES; index++) {
			const { sequence } = block.records[index]!;
			if (sequence < this.#cursor) continue;
			this.#cursor = sequence + 1;
			const event = matching(block, index, selection);
			if (event !== undefined) {
				events.push(event);
				bytes += event.entry.byteLength;
			}
			if (selection.filter !== undefined && clock.monotonic() - startedAt > MAX_FILTER_MS) {
				index++;
				break;
			}
		}
		if (index < to) {
			this.#run = { block, from: index, to };
		} else {
			this.#run = undefined;
			this.#cursor = Math.max(this.#cursor, this.#runNext);
		}
		return events;
	}
}

/** Reads one event again; undefined where it is no longer kept, or no longer for this subscriber. */
export async function readAgain(
	log: LogStore,
	sequence: number,
	selection: Selection,
): Promise<MatchingEvent | "gone" | "unmatched"> {
	const { records } = await log.read({ from: { sequence }, maxRecords: 1, maxBytes: 1 });
	const record: StoredRecord | undefined = records[0];
	if (record?.sequence !== sequence) return "gone";
	return matching(new EventBlock([record], selection.replayBelow), 0, selection) ?? "unmatched";
}

function matching(block: EventBlock, index: number, selection: Selection): MatchingEvent | undefined {
	const { subscriber, filter, onFilterError } = selection;
	const audience = block.audience(index);
	if (audience !== undefined && !audience.admits(subscriber)) return undefined;
	if (filter !== undefined && !filter.matches(block.view(index), onFilterError)) return undefined;
	const record = block.records[index]!;
	const entry = new Uint8Array(block.entries(index, index + 1));
	return { sequence: record.sequence, entry, orderingKey: orderingKeyOf(record.bytes) };
}
