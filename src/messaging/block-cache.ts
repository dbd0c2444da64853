import type { KvStore } from "../state/kv-store.ts";
import { type BlockBytes, indexBlock } from "./block-record.ts";
import type { StoredBlock } from "./queued-message.ts";

/** Bytes of blocks that were read lately; the last one may go over. */
const CACHE_BYTES = 2 * 1024 * 1024;

/** Reads blocks back. What waits in one is mostly read in one go, or in a few, so that the last ones are kept. */
export class BlockCache {
	readonly #kv: KvStore;
	/** The one that was used last comes last. */
	readonly #blocks = new Map<StoredBlock, BlockBytes>();
	#bytes = 0;

	constructor(kv: KvStore) {
		this.#kv = kv;
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
			this.drop(oldest);
		}
		return read;
	}

	/** What was read of it is no longer needed, or no longer so. */
	drop(block: StoredBlock): void {
		const known = this.#blocks.get(block);
		if (known === undefined) return;
		this.#blocks.delete(block);
		this.#bytes -= known.bytes.byteLength;
	}
}
