/** Small pieces share a chunk of so many bytes, which lives as long as one of them. */
const CHUNK_BYTES = 16 * 1024;
const SMALL_BYTES = CHUNK_BYTES / 4;

/** A piece of a chunk that others share. A buffer of its own for each would cost more than what is in it. */
export interface BytePiece {
	readonly chunk: Buffer;
	readonly start: number;
	readonly end: number;
}

/** Hands out pieces of chunks, which are not cleared. */
export class ByteChunks {
	#chunk = Buffer.alloc(0);
	#at = 0;

	take(bytes: number): BytePiece {
		if (bytes > SMALL_BYTES) return { chunk: Buffer.allocUnsafeSlow(bytes), start: 0, end: bytes };
		if (this.#at + bytes > this.#chunk.byteLength) {
			this.#chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES);
			this.#at = 0;
		}
		const start = this.#at;
		this.#at += bytes;
		return { chunk: this.#chunk, start, end: this.#at };
	}
}

export function pieceBytes({ chunk, start, end }: BytePiece): Buffer {
	return chunk.subarray(start, end);
}
