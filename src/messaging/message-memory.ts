import type { QueuedMessage } from "./queued-message.ts";

export const DEFAULT_MESSAGE_MEMORY_BYTES = 32 * 1024 * 1024;

/** Bytes that a message takes beside its wire form: itself, its names, its places in maps and lists. Measured. */
const MESSAGE_BYTES = 512;

/** More of them where its sender chose its id. Measured. */
const CHOSEN_ID_BYTES = 384;

/** How many times what is still free one recipient may have. */
const SHARE = 8;

/** Waiting messages up to this size are moved together. */
const SMALL_BYTES = 4096;
const SLAB_BYTES = 64 * 1024;

/** What a message takes of the memory, about: the payload of a durable one is on disk. */
export function memoryCost({ stored, size }: QueuedMessage): number {
	if (stored === undefined) return MESSAGE_BYTES + size;
	return stored.digest === "" ? MESSAGE_BYTES : MESSAGE_BYTES + CHOSEN_ID_BYTES;
}

/**
 * The memory that accepted messages of all recipients take, from their acceptance until they are settled.
 *
 * - MM-1 A recipient may have up to `SHARE` times what is free. So one that stalls alone gets most of it, many that stall get
 *   equal shares, and those that do not stall always find as much room as each of them has.
 * - MM-2 A recipient that has nothing may have one message, whatever the others have.
 * - MM-3 What waits keeps no more than its own bytes: it does not hold on to what other, shorter-lived bytes lay beside.
 */
export class MessageMemory {
	readonly #maxBytes: number;
	#used = 0;
	#slab = Buffer.alloc(0);
	#slabUsed = 0;

	/** `maxBytes`: default 32 MiB. */
	constructor(maxBytes: number = DEFAULT_MESSAGE_MEMORY_BYTES) {
		this.#maxBytes = maxBytes;
	}

	/** Bytes that are taken, about. */
	get used(): number {
		return this.#used;
	}

	/** MM-1, MM-2. Whether a recipient that has `held` bytes may take the message. */
	hasRoom(held: number, message: QueuedMessage): boolean {
		return held === 0 || held + memoryCost(message) <= SHARE * (this.#maxBytes - this.#used);
	}

	/** Counts a message, or (`isHeld` false) no longer. Returns what it takes. */
	hold(message: QueuedMessage, isHeld: boolean): number {
		const cost = isHeld ? memoryCost(message) : -memoryCost(message);
		this.#used += cost;
		return cost;
	}

	/** MM-3. Moves the bytes of a message that begins to wait. */
	settleDown(message: QueuedMessage): void {
		const { bytes } = message;
		if (bytes === undefined || bytes.byteLength > SMALL_BYTES) return;
		if (this.#slabUsed + bytes.byteLength > this.#slab.byteLength) {
			this.#slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
			this.#slabUsed = 0;
		}
		const end = this.#slabUsed + bytes.byteLength;
		const own = this.#slab.subarray(this.#slabUsed, end);
		own.set(bytes);
		this.#slabUsed = end;
		message.bytes = own;
	}
}
