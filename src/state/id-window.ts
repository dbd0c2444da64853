export interface IdWindowOptions {
	/** The most ids remembered. */
	readonly maxIds: number;
	/** How long an id is remembered, in milliseconds. */
	readonly maxAgeMs: number;
	/** Makes the hash of an id unpredictable to whoever chooses ids. */
	readonly seed: number;
}

/** The 64-bit hash of an id as two unsigned halves. */
export interface IdHash {
	readonly high: number;
	readonly low: number;
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

	/** Two independent 32-bit multiply-and-rotate passes over the id's UTF-16 units. */
	hash(id: string): IdHash {
		let high = this.#options.seed ^ id.length;
		let low = Math.imul(this.#options.seed ^ 0x51ed270b, 0x9e3779b1);
		for (let index = 0; index < id.length; index++) {
			const unit = id.charCodeAt(index);
			high = Math.imul(((high << 13) | (high >>> 19)) ^ unit, 0x2c1b3c6d);
			low = Math.imul(((low << 7) | (low >>> 25)) + unit, 0x297a2d39);
		}
		high ^= low >>> 15;
		low ^= Math.imul(high, 0x85ebca6b) >>> 13;
		return { high: mix(high), low: mix(low) };
	}

	/** The sequence of a remembered id, newest first among those with this hash, that `holds` agrees is the one. */
	find(hash: IdHash, holds: (sequence: number) => boolean): number | undefined {
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

	/** Remembers an id stored at `sequence`. */
	add(hash: IdHash, sequence: number): void {
		if (this.size >= this.#options.maxIds) this.#dropOldest(1);
		if (this.size === this.#high.length) this.#grow();
		const slot = this.#end++ & (this.#high.length - 1);
		this.#high[slot] = hash.high;
		this.#low[slot] = hash.low;
		this.#sequence[slot] = sequence;
		this.#place(slot);
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
	}

	#dropOldest(count: number): void {
		for (let dropped = 0; dropped < count; dropped++) this.#remove(this.#oldest++ & (this.#high.length - 1));
	}

	#place(slot: number): void {
		const mask = this.#table.length - 1;
		let at = this.#low[slot]! & mask;
		while (this.#table[at] !== 0) at = (at + 1) & mask;
		this.#table[at] = slot + 1;
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

	#grow(): void {
		const { length } = this.#high;
		const grown = length * 2;
		const high = new Uint32Array(grown);
		const low = new Uint32Array(grown);
		const sequence = new Float64Array(grown);
		for (let position = this.#oldest; position < this.#end; position++) {
			const from = position & (length - 1);
			const to = position & (grown - 1);
			high[to] = this.#high[from]!;
			low[to] = this.#low[from]!;
			sequence[to] = this.#sequence[from]!;
		}
		this.#high = high;
		this.#low = low;
		this.#sequence = sequence;
		this.#table = new Int32Array(grown * 2);
		for (let position = this.#oldest; position < this.#end; position++) this.#place(position & (grown - 1));
	}
}

function mix(value: number): number {
	let mixed = Math.imul(value ^ (value >>> 16), 0x45d9f3b5);
	mixed = Math.imul(mixed ^ (mixed >>> 15), 0x2c9277b5);
	return (mixed ^ (mixed >>> 16)) >>> 0;
}
