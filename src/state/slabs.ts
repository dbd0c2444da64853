/** Small pieces share a slab of so many bytes, which lives for as long as one of them is needed. */
const SLAB_BYTES = 64 * 1024;
/** Pieces up to here are small. */
export const SMALL_BYTES = SLAB_BYTES / 4;
/** Slabs kept to be filled again. */
const SPARE_SLABS = 16;

/** Memory for one large piece or for many small ones. */
export class Slab {
	/** Begins at the start of its memory. */
	readonly bytes: Buffer;
	/** Whether its pieces are of one taker after the other, who says when he needs them no more. */
	readonly isShared: boolean;
	/** Takers who need pieces of it. */
	takers = 0;
	/** Whether somebody may have views of it, who does not say when he needs them no more. */
	isLent = false;

	constructor(bytes: number, isShared: boolean) {
		this.bytes = Buffer.allocUnsafeSlow(bytes);
		this.isShared = isShared;
	}
}

/**
 * Hands out pieces of slabs, one behind the other; what they hold is not cleared. The piece taken last is told by its slab and
 * its start: an object for each would cost more than what is in it. Slabs that nobody needs any more are filled again: as many
 * are let go of as are filled, and memory outside of the heap makes the collector look through all of it.
 */
export class Slabs {
	/** Where the last piece is. */
	slab: Slab = NO_SLAB;
	start = 0;
	/** The slab in use, and what is taken of it. */
	#shared: Slab = NO_SLAB;
	#taken = 0;
	#markedShared: Slab = NO_SLAB;
	#markedTaken = 0;
	readonly #spare: Slab[] = [];

	take(bytes: number): void {
		if (bytes > SMALL_BYTES) {
			this.slab = new Slab(bytes, false);
			this.start = 0;
			return;
		}
		if (this.#taken + bytes > this.#shared.bytes.byteLength) {
			this.#shared = this.#spare.pop() ?? new Slab(SLAB_BYTES, true);
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

	/** A taker needs his pieces of it no more. */
	release(slab: Slab): void {
		slab.takers--;
		const isFree = slab.takers === 0 && slab.isShared && !slab.isLent && slab !== this.#shared;
		if (isFree && this.#spare.length < SPARE_SLABS) this.#spare.push(slab);
	}
}

const NO_SLAB = new Slab(0, false);
