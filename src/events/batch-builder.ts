import type { Clock } from "../clock/clock.ts";
import type { EventFilter } from "../expressions/event-filter.ts";
import type { EventBlock } from "./event-block.ts";
import type { Subscriber } from "./subscriber.ts";
import { filtersAreOver, spendOnFilters } from "./yield-turn.ts";

/** The most events that one frame carries. */
const MAX_EVENTS = 512;
/** About how many bytes of events one frame carries; one event may be larger. */
const MAX_BYTES = 256 * 1024;

/** Consecutive events `[from, to)` of one block. */
export interface Run {
	readonly block: EventBlock;
	readonly from: number;
	readonly to: number;
}

export interface BatchOptions {
	readonly clock: Clock;
	readonly subscriber: Subscriber;
	readonly filter: EventFilter | undefined;
	/** Told of each event whose filter could not be evaluated. */
	readonly onFilterError: () => void;
}

/** Gathers what one frame carries: the events of runs that the subscriber may see and asked for. */
export class BatchBuilder {
	readonly #options: BatchOptions;
	#entries: Uint8Array[] = [];
	#events = 0;
	#bytes = 0;
	#limit = MAX_EVENTS;
	#startedAt = 0;

	constructor(options: BatchOptions) {
		this.#options = options;
	}

	/** Begins a frame of at most `limit` events. */
	begin(limit: number): void {
		this.#entries = [];
		this.#events = 0;
		this.#bytes = 0;
		this.#limit = Math.min(limit, MAX_EVENTS);
	}

	get entries(): readonly Uint8Array[] {
		return this.#entries;
	}

	get events(): number {
		return this.#events;
	}

	get bytes(): number {
		return this.#bytes;
	}

	/**
	 * Takes of a run what the frame has room for; gives the index after the last event examined, which may be none where
	 * filters have had their share of this turn.
	 */
	add(run: Run): number {
		const { block } = run;
		if (this.#options.filter !== undefined || block.hasAudiences) return this.#addPicked(run);
		let to = Math.min(run.to, run.from + this.#limit - this.#events);
		if (this.#bytes + block.sizeOf(run.from, to) > MAX_BYTES) {
			const least = this.#events === 0 ? 1 : 0;
			while (to - run.from > least && this.#bytes + block.sizeOf(run.from, to) > MAX_BYTES) to--;
		}
		this.#push(block, run.from, to);
		return to;
	}

	#addPicked({ block, from, to }: Run): number {
		if (this.#options.filter !== undefined) {
			if (filtersAreOver()) return from;
			this.#startedAt = this.#options.clock.monotonic();
		}
		let picked = from;
		let index = from;
		for (; index < to && this.#events + (index - picked) < this.#limit; index++) {
			const waiting = this.#bytes + block.sizeOf(picked, index);
			if (waiting > 0 && waiting + block.sizeOf(index, index + 1) > MAX_BYTES) break;
			if (this.#admits(block, index)) {
				if (!this.#isLate()) continue;
				index++;
				break;
			}
			this.#push(block, picked, index);
			picked = index + 1;
			if (!this.#isLate()) continue;
			index++;
			break;
		}
		this.#push(block, picked, index);
		return index;
	}

	#admits(block: EventBlock, index: number): boolean {
		const { subscriber, filter, onFilterError } = this.#options;
		const audience = block.audience(index);
		if (audience !== undefined && !audience.admits(subscriber)) return false;
		return filter === undefined || filter.matches(block.view(index), onFilterError);
	}

	#isLate(): boolean {
		if (this.#options.filter === undefined) return false;
		const now = this.#options.clock.monotonic();
		spendOnFilters(now - this.#startedAt);
		this.#startedAt = now;
		return filtersAreOver();
	}

	#push(block: EventBlock, from: number, to: number): void {
		if (to <= from) return;
		const entries = block.entries(from, to);
		this.#entries.push(entries);
		this.#bytes += entries.byteLength;
		this.#events += to - from;
	}
}
