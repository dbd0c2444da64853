import type { KvStore } from "../state/kv-store.ts";
import { type BlockBytes, indexBlock } from "./block-record.ts";
import type { StoredBlock } from "./queued-message.ts";

/** Bytes of blocks that were read lately; the last one may go over. */
const CACHE_BYTES = 2 * 1024 * 1024;

/** The bytes that a block may leave unused in the buffer that it was written in, as a share of them. */
const MAX_SLACK = 1 / 4;

/**
 * The records of blocks in memory: of those that were just written, so that what is delivered at once is not read back; and of
 * those that were read back. What waits in one is mostly read in one go, or in a few, so that the last ones are kept.
 */
export class BlockCache {
	readonly #kv: KvStore;
	/** The one that was used last comes last. */
	readonly #blocks = new Map<StoredBlock, BlockBytes>();
	#bytes = 0;
	readonly #maxWritten: number;
	#written = 0;

	/** `maxWritten`: bytes of blocks that are kept from when they are stored. */
	constructor(kv: KvStore, maxWritten: number) {
		this.#kv = kv;
		this.#maxWritten = maxWritten;
	}

	/** Bytes of blocks that are kept from when they were stored. */
	get written(): number {
		return this.#written;
	}

	/** A block is stored: its record stays until all that it has was handed out, as far as there is room. */
	keep(block: StoredBlock, value: Uint8Array): void {
		const isTight = value.byteLength >= value.buffer.byteLength * (1 - MAX_SLACK);
		const bytes = isTight ? value.buffer.byteLength : value.byteLength;
		if (this.#written + bytes > this.#maxWritten) return;
		this.#written += bytes;
		block.value = value;
		if (isTight) return;
		block.value = Buffer.allocUnsafeSlow(bytes);
		block.value.set(value);
	}

	/** A message is handed out for the first time since its block was stored. */
	handedOut(block: StoredBlock): void {
		if (block.value !== undefined && block.handOut()) this.#release(block);
	}

	/** Undefined: nothing is stored. */
	read(block: StoredBlock): BlockBytes | undefined {
		const known = this.#blocks.get(block);
		if (known !== undefined) {
			this.#blocks.delete(block);
			this.#blocks.set(block, known);
			return known;
		}
		const entry = this.#kv.get(block.key);
		if (entry === undefined) return undefined;
		const read = indexBlock(entry.value);
		this.#blocks.set(block, read);
		this.#bytes += read.bytes.byteLength;
		for (const oldest of this.#blocks.keys()) {
			if (this.#bytes <= CACHE_BYTES || oldest === block) break;
			this.#forget(oldest);
		}
		return read;
	}

	/** What was read of it is no longer needed, or no longer so. */
	drop(block: StoredBlock): void {
		this.#release(block);
		this.#forget(block);
	}

	#forget(block: StoredBlock): void {
		const known = this.#blocks.get(block);
		if (known === undefined) return;
		this.#blocks.delete(block);
		this.#bytes -= known.bytes.byteLength;
	}

	#release(block: StoredBlock): void {
		if (block.value === undefined) return;
		this.#written -= block.value.buffer.byteLength;
		block.value = undefined;
	}
}
