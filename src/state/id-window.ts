import type { TextHash } from "./text-hash.ts";

export interface IdWindowOptions {
	/** The most ids remembered. */
	readonly maxIds: number;
	/** How long an id is remembered, in milliseconds. */
	readonly maxAgeMs: number;
}

const FIRST_SLOTS = 1024;
const MARKS = 64;

/**
 * LOG-2: which ids a log stored lately, as 64-bit hashes with their sequences in typed arrays (about 25 bytes an id).
 *
 * A ring holds them in the order they were stored; an open-addressing table finds them. A hash only says where an id may
 * be: the caller compares with the record at the sequence. Forgets the oldest past `maxIds`, and by age in steps of a
 * 64th of `maxAgeMs`, late rather than early: the caller also checks the record's time.
 */
export class IdWindow {
	readonly #options: IdWindowOptions;
	#high = new Uint32Array(FIRST_SLOTS);
	#low = new Uint32Array(FIRST_SLOTS);
	#sequence = new Float64Array(FIRST_SLOTS);
	/** Ring slot plus one, 0 where free; twice as long as the ring. */
	#table = new Int32Array(FIRST_SLOTS * 2);
	/** Positions count up for ever; slot = position modulo the ring's length. */
	#oldest = 0;
	#end = 0;
	/** Everything before `position` was stored at `time` or before. */
	#marks: { readonly time: number; readonly position: number }[] = [];

	constructor(options: IdWindowOptions) {
		this.#options = options;
	}

	get size(): number {
		return this.#end - this.#oldest;
	}

	/** The sequence of a remembered id, newest first among those with this hash, that `holds` agrees is the one. */
	find(hash: TextHash, holds: (sequence: number) => boolean): number | undefined {
		const mask = this.#table.length - 1;
		let found: number | undefined;
		for (let at = hash.low & mask; this.#table[at] !== 0; at = (at + 1) & mask) {
			const slot = this.#table[at]! - 1;
			if (this.#low[slot] !== hash.low || this.#high[slot] !== hash.high) continue;
			const sequence = this.#sequence[slot]!;
			if ((found === undefined || sequence > found) && holds(sequence)) found = sequence;
		}
		return found;
	}

	/** Makes room for this many ids at once, which is cheaper than growing to it. */
	reserve(count: number): void {
		const slots = 2 ** Math.ceil(Math.log2(Math.min(count, this.#options.maxIds)));
		if (slots > this.#high.length) this.#resize(slots);
	}

	/** Remembers an id stored at `sequence`. */
	add(hash: TextHash, sequence: number): void {
		this.#add(hash.high, hash.low, sequence);
	}

	/** Remembers many ids: halves of their hashes, and their sequences as distances from `first`. */
	addAll(high: Uint32Array, low: Uint32Array, offset: Uint32Array, first: number): void {
		for (let index = 0; index < high.length; index++) this.#add(high[index]!, low[index]!, first + offset[index]!);
	}

	/** Says that everything added so far was stored at `time` or before, and forgets what is too old by then. */
	mark(time: number): void {
		const last = this.#marks.at(-1);
		if (last === undefined || time - last.time >= this.#options.maxAgeMs / MARKS) {
			this.#marks.push({ time, position: this.#end });
		}
		const expired = time - this.#options.maxAgeMs;
		let passed = 0;
		while (passed < this.#marks.length && this.#marks[passed]!.time < expired) passed++;
		if (passed === 0) return;
		const { position } = this.#marks[passed - 1]!;
		this.#marks = this.#marks.slice(passed);
		if (position > this.#oldest) this.#dropOldest(position - this.#oldest);
	}

	/** Takes back the newest `count` ids: their records were not stored. */
	dropNewest(count: number): void {
		for (let dropped = 0; dropped < count && this.size > 0; dropped++) {
			this.#remove(--this.#end & (this.#high.length - 1));
		}
		for (const [index, { time, position }] of this.#marks.entries()) {
			if (position > this.#end) this.#marks[index] = { time, position: this.#end };
		}
	}

	#add(high: number, low: number, sequence: number): void {
		if (this.size >= this.#options.maxIds) this.#dropOldest(1);
		if (this.size === this.#high.length) this.#resize(this.#high.length * 2);
		const slot = this.#end++ & (this.#high.length - 1);
		this.#high[slot] = high;
		this.#low[slot] = low;
		this.#sequence[slot] = sequence;
		this.#place(slot);
	}

	#dropOldest(count: number): void {
		for (let dropped = 0; dropped < count; dropped++) this.#remove(this.#oldest++ & (this.#high.length - 1));
	}

	#place(slot: number): void {
		const table = this.#table;
		const mask = table.length - 1;
		let at = this.#low[slot]! & mask;
		while (table[at] !== 0) at = (at + 1) & mask;
		table[at] = slot + 1;
	}

	/** Frees the slot's cell and moves later cells of the same run back, so that no probe stops short. */
	#remove(slot: number): void {
		const mask = this.#table.length - 1;
		let hole = this.#low[slot]! & mask;
		while (this.#table[hole] !== slot + 1) hole = (hole + 1) & mask;
		for (let at = (hole + 1) & mask; this.#table[at] !== 0; at = (at + 1) & mask) {
			const home = this.#low[this.#table[at]! - 1]! & mask;
			if (((at - home) & mask) >= ((at - hole) & mask)) {
				this.#table[hole] = this.#table[at]!;
				hole = at;
			}
		}
		this.#table[hole] = 0;
	}

	#resize(slots: number): void {
		const mask = this.#high.length - 1;
		const high = new Uint32Array(slots);
		const low = new Uint32Array(slots);
		const sequence = new Float64Array(slots);
		for (let position = this.#oldest; position < this.#end; position++) {
			const from = position & mask;
			const to = position & (slots - 1);
			high[to] = this.#high[from]!;
			low[to] = this.#low[from]!;
			sequence[to] = this.#sequence[from]!;
		}
		this.#high = high;
		this.#low = low;
		this.#sequence = sequence;
		this.#table = new Int32Array(slots * 2);
		for (let position = this.#oldest; position < this.#end; position++) this.#place(position & (slots - 1));
	}
}
