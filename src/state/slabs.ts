/** Small pieces share a slab of so many bytes, which lives for as long as one of them is needed. */
const SLAB_BYTES = 64 * 1024;
/** Pieces up to here are small. */
export const SMALL_BYTES = SLAB_BYTES / 4;

/**
 * Hands out pieces of slabs, one behind the other; what they hold is not cleared. The piece taken last is told by its slab and
 * its start: an object for each would cost more than what is in it.
 */
export class Slabs {
	/** Where the last piece is: a buffer that begins at the start of its memory. */
	slab: Buffer = NO_SLAB;
	start = 0;
	/** The slab in use, and what is taken of it. */
	#shared: Buffer = NO_SLAB;
	#taken = 0;
	#markedShared: Buffer = NO_SLAB;
	#markedTaken = 0;

	take(bytes: number): void {
		if (bytes > SMALL_BYTES) {
			this.slab = Buffer.allocUnsafeSlow(bytes);
			this.start = 0;
			return;
		}
		if (this.#taken + bytes > this.#shared.byteLength) {
			this.#shared = Buffer.allocUnsafeSlow(SLAB_BYTES);
			this.#taken = 0;
		}
		this.slab = this.#shared;
		this.start = this.#taken;
		this.#taken += bytes;
	}

	mark(): void {
		this.#markedShared = this.#shared;
		this.#markedTaken = this.#taken;
	}

	/** Takes back all pieces since `mark`. */
	rewind(): void {
		this.#shared = this.#markedShared;
		this.#taken = this.#markedTaken;
	}
}

const NO_SLAB = Buffer.alloc(0);
