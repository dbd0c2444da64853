import { HubError } from "../hub-error.ts";
import { GatheredBytes } from "./gathered-bytes.ts";

/** A flag byte and a 32-bit length. */
const PREFIX_BYTES = 5;

/**
 * A payload smaller than this share of the buffer it arrived in is copied out of it, because whoever keeps a small
 * message would keep the whole network read alive with it.
 */
const RETAIN_RATIO = 4;

/**
 * Cuts a byte stream into gRPC messages. Nothing is allocated from a declared length: bytes are kept as they arrive, and
 * a length beyond the cap is refused as soon as its five bytes are there.
 */
export class FrameReader {
	readonly #maxBytes: number;
	readonly #pending = new GatheredBytes();
	/** Bytes that must be pending before anything can be cut. */
	#wanted = PREFIX_BYTES;

	constructor(maxBytes: number) {
		this.#maxBytes = maxBytes;
	}

	/** Whether bytes of an unfinished message wait. True at the end of a stream means that it was cut short. */
	get partial(): boolean {
		return this.#pending.byteLength > 0;
	}

	/** Bytes of an unfinished message. */
	get pendingBytes(): number {
		return this.#pending.byteLength;
	}

	/** Hands each message that `chunk` completes to `take`, in order. Throws a `HubError`; then the stream is unusable. */
	push(chunk: Uint8Array, take: (message: Uint8Array) => void): void {
		let bytes = chunk;
		if (this.#pending.byteLength > 0) {
			this.#pending.push(chunk);
			if (this.#pending.byteLength < this.#wanted) return;
			bytes = this.#pending.take();
		}
		let offset = 0;
		while (bytes.byteLength - offset >= PREFIX_BYTES) {
			const length = this.#length(bytes, offset);
			const end = offset + PREFIX_BYTES + length;
			if (end > bytes.byteLength) {
				this.#wanted = PREFIX_BYTES + length;
				break;
			}
			take(detach(bytes, offset + PREFIX_BYTES, end));
			offset = end;
			this.#wanted = PREFIX_BYTES;
		}
		if (offset < bytes.byteLength) this.#pending.push(offset === 0 ? bytes : bytes.subarray(offset));
	}

	#length(bytes: Uint8Array, offset: number): number {
		const flags = bytes[offset]!;
		if (flags !== 0) throw unknownFlags(flags);
		const length =
			bytes[offset + 1]! * 0x1000000 + ((bytes[offset + 2]! << 16) | (bytes[offset + 3]! << 8) | bytes[offset + 4]!);
		if (length > this.#maxBytes) throw tooLarge(this.#maxBytes);
		return length;
	}
}

/**
 * The message of a chunk that is exactly one frame which may be taken, as most unary requests are; undefined for
 * anything else, which is for a `FrameReader` to judge.
 */
export function wholeMessage(chunk: Uint8Array, maxBytes: number): Uint8Array | undefined {
	const length = chunk.byteLength - PREFIX_BYTES;
	if (length < 0 || length > maxBytes || chunk[0] !== 0) return undefined;
	const declared = chunk[1]! * 0x1000000 + ((chunk[2]! << 16) | (chunk[3]! << 8) | chunk[4]!);
	return declared === length ? detach(chunk, PREFIX_BYTES, chunk.byteLength) : undefined;
}

/** The refusal of a request message that is larger than its method takes. */
export function tooLarge(maxBytes: number): HubError {
	return new HubError("MESSAGE_TOO_LARGE", `a request message may have at most ${maxBytes} bytes`, {
		metadata: { max_bytes: String(maxBytes) },
	});
}

/** The refusal of a message whose flags say something else than "not compressed". */
export function unknownFlags(flags: number): HubError {
	const what = flags === 1 ? "a compressed message without a grpc-encoding" : "a message with unknown flags";
	return new HubError("MALFORMED_REQUEST", `${what} was received`);
}

function detach(bytes: Uint8Array, start: number, end: number): Uint8Array {
	if ((end - start) * RETAIN_RATIO >= bytes.buffer.byteLength) return bytes.subarray(start, end);
	// From Node's pool: a buffer of its own for each small message costs more than the message.
	const copy = Buffer.allocUnsafe(end - start);
	copy.set(bytes.subarray(start, end));
	return copy;
}
