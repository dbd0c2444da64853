import type { IdWindow } from "../id-window.ts";
import type { LogOptions } from "../log-store.ts";
import type { TextHash } from "../text-hash.ts";
import type { Environment } from "./environment.ts";
import { LAST_SEQUENCE, type LogKeys } from "./log-keys.ts";

const HEADER_BYTES = 16;
const COLUMNS = 3;
/** One group in 16 drops up to 64 old ones, so that a group stays short and drops outrun additions. */
const DROP_EVERY = 16;
const DROPS = 64;

/**
 * The hashes of the ids in LOG-2's window, stored beside the blocks so that opening a log reads little: one entry a
 * group: `f64 time, u32 count, u32 0`, then three columns of `u32`, namely high halves, low halves, and distances from the
 * group's first sequence. Columns are in the machine's byte order, which is little-endian wherever LMDB is prebuilt.
 */
export class StoredIds {
	readonly #environment: Environment;
	readonly #keys: LogKeys;
	readonly #options: Required<LogOptions>;
	/** Ids stored, with those of the group in hand. */
	#count = 0;
	#flushedCount = 0;
	#writes = 0;

	constructor(environment: Environment, keys: LogKeys, options: Required<LogOptions>) {
		this.#environment = environment;
		this.#keys = keys;
		this.#options = options;
	}

	/** Fills the window with what is stored and not too old at `time`. */
	load(window: IdWindow, time: number): void {
		const range = { start: this.#keys.at(0), end: this.#keys.at(LAST_SEQUENCE) };
		const live: { readonly first: number; readonly entry: DataView }[] = [];
		let count = 0;
		for (const { key, value } of this.#environment.ids.getRange(range)) {
			const entry = new DataView(value.buffer, value.byteOffset, value.byteLength);
			this.#count += entry.getUint32(8, true);
			if (time - entry.getFloat64(0, true) >= this.#options.rememberMs) continue;
			live.push({ first: this.#keys.sequenceOf(key)!, entry });
			count += entry.getUint32(8, true);
		}
		window.reserve(count);
		for (const { first, entry } of live) {
			const [high, low, offset] = columnsOf(entry);
			window.addAll(high, low, offset, first);
			window.mark(entry.getFloat64(0, true));
		}
		this.#flushedCount = this.#count;
	}

	/** In the transaction: stores a group's hashes with their sequences, and drops groups that are past the window. */
	write(first: number, time: number, hashes: readonly (TextHash & { readonly sequence: number })[]): void {
		if (this.#writes++ % DROP_EVERY === 0) this.#drop(time);
		if (hashes.length === 0) return;
		const bytes = Buffer.alloc(HEADER_BYTES + hashes.length * COLUMNS * 4);
		const entry = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
		entry.setFloat64(0, time, true);
		entry.setUint32(8, hashes.length, true);
		const [high, low, offset] = columnsOf(entry);
		for (let index = 0; index < hashes.length; index++) {
			const hash = hashes[index]!;
			high[index] = hash.high;
			low[index] = hash.low;
			offset[index] = hash.sequence - first;
		}
		this.#environment.ids.put(this.#keys.at(first), bytes);
		this.#count += hashes.length;
	}

	flushed(): void {
		this.#flushedCount = this.#count;
	}

	failed(): void {
		this.#count = this.#flushedCount;
	}

	#drop(time: number): void {
		const { ids } = this.#environment;
		const range = { start: this.#keys.at(0), end: this.#keys.at(LAST_SEQUENCE), limit: DROPS };
		const expired: Uint8Array[] = [];
		for (const { key, value } of ids.getRange(range)) {
			const entry = new DataView(value.buffer, value.byteOffset, value.byteLength);
			const count = entry.getUint32(8, true);
			const fits = this.#count - count < this.#options.rememberIds;
			if (fits && time - entry.getFloat64(0, true) < this.#options.rememberMs) break;
			expired.push(Buffer.from(key));
			this.#count -= count;
		}
		for (const key of expired) ids.remove(key);
	}
}

/** Views of the columns; of a copy where the entry is not aligned. */
function columnsOf(entry: DataView): [Uint32Array, Uint32Array, Uint32Array] {
	const count = entry.getUint32(8, true);
	const aligned = entry.byteOffset % 4 === 0;
	const buffer = aligned ? entry.buffer : entry.buffer.slice(entry.byteOffset, entry.byteOffset + entry.byteLength);
	const start = (aligned ? entry.byteOffset : 0) + HEADER_BYTES;
	const column = (index: number) => new Uint32Array(buffer, start + index * count * 4, count);
	return [column(0), column(1), column(2)];
}
