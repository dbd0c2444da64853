import type { IdWindow } from "../id-window.ts";
import type { LogOptions } from "../log-store.ts";
import type { TextHash } from "../text-hash.ts";
import type { Environment } from "./environment.ts";
import { LAST_SEQUENCE, type LogKeys } from "./log-keys.ts";

const HEADER_BYTES = 16;
const ENTRY_BYTES = 12;
/** One group in 16 drops up to 64 old ones, so that a group stays short and drops outrun additions. */
const DROP_EVERY = 16;
const DROPS = 64;

/**
 * The hashes of the ids in LOG-2's window, stored beside the blocks so that opening a log reads little: one entry a
 * group, `f64 time, u32 count, u32 0, then u32 high, u32 low, u32 offset from the group's first sequence` each.
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
			for (let at = HEADER_BYTES; at < entry.byteLength; at += ENTRY_BYTES) {
				const hash = { high: entry.getUint32(at, true), low: entry.getUint32(at + 4, true) };
				window.add(hash, first + entry.getUint32(at + 8, true));
			}
			window.mark(entry.getFloat64(0, true));
		}
		this.#flushedCount = this.#count;
	}

	/** In the transaction: stores a group's hashes with their sequences, and drops groups that are past the window. */
	write(first: number, time: number, hashes: readonly (TextHash & { readonly sequence: number })[]): void {
		if (this.#writes++ % DROP_EVERY === 0) this.#drop(time);
		if (hashes.length === 0) return;
		const entry = Buffer.allocUnsafe(HEADER_BYTES + hashes.length * ENTRY_BYTES);
		entry.writeDoubleLE(time, 0);
		entry.writeUInt32LE(hashes.length, 8);
		entry.writeUInt32LE(0, 12);
		let at = HEADER_BYTES;
		for (const { high, low, sequence } of hashes) {
			entry.writeUInt32LE(high, at);
			entry.writeUInt32LE(low, at + 4);
			entry.writeUInt32LE(sequence - first, at + 8);
			at += ENTRY_BYTES;
		}
		this.#environment.ids.put(this.#keys.at(first), entry);
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
