import type { IdWindow } from "../id-window.ts";
import { LOG_LIMITS, type LogAppended, type LogRecord, type StoredRecord } from "../log-store.ts";
import { hashText, type TextHash } from "../text-hash.ts";
import { BLOCK_BYTES, Block, type EncodedBlock, encodeBlock, recordSize } from "./block.ts";

export interface LogGroupOptions {
	readonly ids: IdWindow;
	readonly seed: number;
	/** The sequence of the group's first new record. */
	readonly first: number;
	readonly time: number;
	/** The time of the stored record with this sequence, if it has this id and is remembered still. */
	readonly remembered: (sequence: number, id: string) => number | undefined;
}

/** The appends that one flush stores: finds repeats, gives out sequences, makes blocks. */
export class LogGroup {
	readonly #options: LogGroupOptions;
	readonly #records: LogRecord[] = [];
	readonly #hashes: (TextHash & { readonly sequence: number })[] = [];
	#blocks: readonly EncodedBlock[] = [];

	constructor(options: LogGroupOptions) {
		this.#options = options;
	}

	/** The sequence after the group's last new record. */
	get next(): number {
		return this.#options.first + this.#records.length;
	}

	/** Hashes of the new ids that are to be remembered, in the order the window took them. */
	get hashes(): readonly (TextHash & { readonly sequence: number })[] {
		return this.#hashes;
	}

	/** LOG-2. */
	add(records: readonly LogRecord[]): readonly LogAppended[] {
		const { time } = this.#options;
		const appended: LogAppended[] = [];
		for (const record of records) {
			const sequence = this.next;
			if (record.remember !== false) {
				const hash = hashText(record.id, this.#options.seed);
				const original = this.#find(hash, record.id);
				if (original) {
					appended.push(original);
					continue;
				}
				this.#options.ids.add(hash, sequence);
				this.#hashes.push({ high: hash.high, low: hash.low, sequence });
			}
			this.#records.push(record);
			appended.push({ sequence, time, duplicate: false });
		}
		return appended;
	}

	/** The group's blocks, once all appends are in. */
	encode(): readonly EncodedBlock[] {
		const blocks: EncodedBlock[] = [];
		const records = this.#records;
		for (let start = 0; start < records.length; ) {
			let end = start + 1;
			let bytes = recordSize(records[start]!);
			while (end < records.length && end - start < LOG_LIMITS.appendRecords) {
				bytes += recordSize(records[end]!);
				if (bytes > BLOCK_BYTES) break;
				end++;
			}
			const first = this.#options.first + start;
			blocks.push(encodeBlock(records, start, end, { first, time: this.#options.time }));
			start = end;
		}
		this.#blocks = blocks;
		return blocks;
	}

	/** The group as readers see it. The bytes are views of the blocks. */
	stored(): readonly StoredRecord[] {
		const { first, time } = this.#options;
		const stored: StoredRecord[] = [];
		for (const { bytes } of this.#blocks) {
			const block = new Block(bytes, false);
			for (let index = 0; index < block.count; index++) {
				const { id, topic } = this.#records[stored.length]!;
				stored.push({ id, topic, bytes: block.bytes(index), sequence: first + stored.length, time });
			}
		}
		return stored;
	}

	#find(hash: TextHash, id: string): LogAppended | undefined {
		const { first, time, remembered } = this.#options;
		let original = 0;
		const sequence = this.#options.ids.find(hash, (candidate) => {
			const at = candidate < first ? remembered(candidate, id) : this.#timeInGroup(candidate - first, id, time);
			if (at === undefined) return false;
			original = at;
			return true;
		});
		return sequence === undefined ? undefined : { sequence, time: original, duplicate: true };
	}

	#timeInGroup(index: number, id: string, time: number): number | undefined {
		return this.#records[index]?.id === id ? time : undefined;
	}
}
