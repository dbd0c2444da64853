const SLAB_BYTES = 64 * 1024;
/** A larger piece has a buffer of its own. */
const SMALL_BYTES = SLAB_BYTES / 8;

/**
 * Room for bytes that are written once and kept for a while. Pieces share slabs, each of which lives as long as one of its pieces: a
 * buffer for each would cost more than what is in it. Unlike the slabs that the keyspaces keep changes in, none is filled again: what
 * is handed out of them is read for as long as somebody likes.
 */
export class ByteSlabs {
	/** Where the piece is that was taken last. Not cleared. */
	buffer: Buffer = Buffer.alloc(0);
	/** Bytes taken so far. */
	taken = 0;
	#slab: Buffer = this.buffer;
	#at = 0;

	/** Takes so many bytes of `buffer`, and gives where they begin in it. */
	take(bytes: number): number {
		this.taken += bytes;
		if (bytes > SMALL_BYTES) {
			this.buffer = Buffer.allocUnsafeSlow(bytes);
			return 0;
		}
		if (this.#at + bytes > this.#slab.byteLength) {
			this.#slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
			this.#at = 0;
		}
		this.buffer = this.#slab;
		const start = this.#at;
		this.#at += bytes;
		return start;
	}
}
