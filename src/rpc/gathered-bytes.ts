/** Small chunks are gathered in buffers of this size. */
const GATHER_BYTES = 16 * 1024;

/** A chunk smaller than this share of the buffer it arrived in is copied out of it, so that it does not keep that alive. */
const RETAIN_RATIO = 4;

/** What waits where nothing does; never written to. */
const NONE: Uint8Array[] = [];

/**
 * Bytes that came in chunks and wait for the rest. A peer may send them one by one: kept as they come, each would cost a
 * hundred times its size, and a read of the network that it keeps alive.
 */
export class GatheredBytes {
	#pending: Uint8Array[] = NONE;
	#byteLength = 0;
	/** How much of the last pending buffer is filled, where that gathers small chunks; else undefined. */
	#gathered: number | undefined;

	get byteLength(): number {
		return this.#byteLength;
	}

	push(chunk: Uint8Array): void {
		if (this.#pending === NONE) this.#pending = [];
		this.#byteLength += chunk.byteLength;
		if (chunk.byteLength * RETAIN_RATIO >= chunk.buffer.byteLength || chunk.byteLength >= GATHER_BYTES) {
			this.#endGathering();
			this.#pending.push(chunk);
			return;
		}
		let offset = 0;
		while (offset < chunk.byteLength) {
			if (this.#gathered === undefined || this.#gathered === GATHER_BYTES) {
				this.#pending.push(Buffer.allocUnsafeSlow(GATHER_BYTES));
				this.#gathered = 0;
			}
			const part = chunk.subarray(offset, offset + GATHER_BYTES - this.#gathered);
			this.#pending.at(-1)!.set(part, this.#gathered);
			this.#gathered += part.byteLength;
			offset += part.byteLength;
		}
	}

	/** All of it as one; nothing waits after that. */
	take(): Uint8Array {
		this.#endGathering();
		const joined = this.#pending.length === 1 ? this.#pending[0]! : Buffer.concat(this.#pending, this.#byteLength);
		this.#pending = NONE;
		this.#byteLength = 0;
		return joined;
	}

	#endGathering(): void {
		if (this.#gathered === undefined) return;
		this.#pending.push(this.#pending.pop()!.subarray(0, this.#gathered));
		this.#gathered = undefined;
	}
}
