import { Code, ConnectError } from "@connectrpc/connect";

const PREFIX_BYTES = 5;

/** A message behind its gRPC prefix: not compressed, length. */
export function toFrame(message: Uint8Array): Buffer {
	const frame = Buffer.allocUnsafe(PREFIX_BYTES + message.byteLength);
	frame[0] = 0;
	frame.writeUInt32BE(message.byteLength, 1);
	frame.set(message, PREFIX_BYTES);
	return frame;
}

/** Cuts the bytes of a stream into messages. Copies a message only where it spans chunks. */
export class FrameReader {
	readonly #maxBytes: number;
	#parts: Uint8Array[] = [];
	#held = 0;
	/** Bytes that must be held before there is anything to cut. */
	#needed = PREFIX_BYTES;

	/** A message over `maxBytes` is refused with RESOURCE_EXHAUSTED as soon as its length is known. */
	constructor(maxBytes: number) {
		this.#maxBytes = maxBytes;
	}

	/** Whether a message has begun and not ended. */
	get isInside(): boolean {
		return this.#held > 0;
	}

	/** The messages that are complete with this chunk are added to `messages`. */
	push(chunk: Uint8Array, messages: Uint8Array[]): void {
		this.#held += chunk.byteLength;
		this.#parts.push(chunk);
		if (this.#held < this.#needed) return;
		const bytes = this.#parts.length === 1 ? chunk : Buffer.concat(this.#parts, this.#held);
		let at = 0;
		while (true) {
			const left = bytes.byteLength - at;
			this.#needed = PREFIX_BYTES;
			if (left >= PREFIX_BYTES) this.#needed += this.#lengthAt(bytes, at);
			if (left < this.#needed) break;
			// A plain array: cutting a Buffer into its strings costs about twice as much.
			messages.push(new Uint8Array(bytes.buffer, bytes.byteOffset + at + PREFIX_BYTES, this.#needed - PREFIX_BYTES));
			at += this.#needed;
		}
		this.#parts = at === bytes.byteLength ? [] : [bytes.subarray(at)];
		this.#held = bytes.byteLength - at;
	}

	#lengthAt(bytes: Uint8Array, at: number): number {
		if (bytes[at] !== 0) throw new ConnectError("the peer sent a compressed message unasked", Code.Internal);
		const length = ((bytes[at + 1]! << 24) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 8) | bytes[at + 4]!) >>> 0;
		if (length <= this.#maxBytes) return length;
		throw new ConnectError(`a message of ${length} bytes; at most ${this.#maxBytes} are taken`, Code.ResourceExhausted);
	}
}
