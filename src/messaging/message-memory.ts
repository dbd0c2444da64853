import { isFairShare } from "../streams/fair-shares.ts";
import type { QueuedMessage } from "./queued-message.ts";

export const DEFAULT_MESSAGE_MEMORY_BYTES = 32 * 1024 * 1024;

/** Bytes that a message takes beside its wire form: itself, its names, its places in maps and lists. Measured. */
const MESSAGE_BYTES = 512;

/** More of them where its sender chose its id. Measured. */
const CHOSEN_ID_BYTES = 384;

/**
 * Messages that stay are moved together into so many bytes, so that each costs no buffer of its own; and few of them, because
 * the last one that is left keeps the whole.
 */
const SLAB_BYTES = 1024;

/** What a message takes of the memory, about: the payload of a durable one is on disk. */
export function memoryCost({ stored, size }: QueuedMessage): number {
	if (stored === undefined) return MESSAGE_BYTES + size;
	return stored.digest === "" ? MESSAGE_BYTES : MESSAGE_BYTES + CHOSEN_ID_BYTES;
}

/**
 * The memory that accepted messages of all recipients take, from their acceptance until they are settled.
 *
 * - MM-1 A recipient may have its fair share (`isFairShare`). So one that stalls alone gets most of it, many that stall get
 *   equal shares, and those that do not stall always find as much room as each of them has.
 * - MM-2 A recipient that has nothing may have one message, whatever the others have.
 * - MM-3 A message that stays keeps less than 1 KiB beside its own bytes, whatever those lay beside.
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
		return isFairShare(held, memoryCost(message), this.#maxBytes - this.#used);
	}

	/** Counts a message, or (`isHeld` false) no longer. Returns what it takes. */
	hold(message: QueuedMessage, isHeld: boolean): number {
		const cost = isHeld ? memoryCost(message) : -memoryCost(message);
		this.#used += cost;
		return cost;
	}

	/** MM-3. Moves the bytes of a message that stays for now. */
	settleDown(message: QueuedMessage): void {
		const { bytes } = message;
		if (bytes === undefined || bytes.buffer.byteLength < bytes.byteLength + SLAB_BYTES) return;
		message.bytes = this.#place(bytes.byteLength);
		message.bytes.set(bytes);
	}

	#place(size: number): Buffer {
		if (size > SLAB_BYTES / 2) return Buffer.allocUnsafeSlow(size);
		if (this.#slabUsed + size > this.#slab.byteLength) {
			this.#slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
			this.#slabUsed = 0;
		}
		const start = this.#slabUsed;
		this.#slabUsed += size;
		return this.#slab.subarray(start, this.#slabUsed);
	}
}
