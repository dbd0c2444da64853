import type { WriteResult } from "../stores/entry-write.ts";
import { varintSize } from "../wire/varint.ts";
import { WireWriter } from "../wire/wire-writer.ts";
import { Encoded } from "./call.ts";
import { encodeWriteResult } from "./write-results.ts";

/** Fields of `PipelineResult`. */
const ID = 1;
const FAILED_CHECKS = 6;
export const RESULT_FIELD = Object.freeze({ entry: 2, write: 3, transaction: 4, error: 5 });

/** What one frame of results holds at most; the last result may go over. */
const FRAME_RESULTS = 2048;
const FRAME_BYTES = 256 * 1024;

/** A body of so many bytes is passed on as it is; a smaller one is cheaper to copy. */
const SPLICE_BYTES = 16 * 1024;

/** Field 2 of `PipelineResponse`. */
const RESULTS = 2;

/**
 * The results of a pipeline on their way down, gathered into frames. They are written once, into the frame that they go in;
 * large ones are not copied. Bounded by whoever adds them.
 */
export class PipelineResults {
	readonly #frames: { readonly frame: Encoded; readonly results: number }[] = [];
	#parts: Uint8Array[] = [];
	#partBytes = 0;
	#writer = new WireWriter();
	#inFrame = 0;
	#closedResults = 0;
	#closedBytes = 0;

	/** Results waiting. */
	get size(): number {
		return this.#closedResults + this.#inFrame;
	}

	/** Their bytes. */
	get bytes(): number {
		return this.#closedBytes + this.#partBytes + this.#writer.length;
	}

	/** `body` is the message of the result's field, in wire form; it must not change until it is sent. */
	add(id: number | bigint, field: number, body: Uint8Array): void {
		const writer = this.#writer;
		writer.header(1, idSize(id) + 1 + varintSize(body.byteLength) + body.byteLength);
		writer.varint(ID, id);
		writer.header(field, body.byteLength);
		if (body.byteLength < SPLICE_BYTES) writer.append(body);
		else this.#splice(body);
		this.#added();
	}

	/** The result of one write. */
	addWrite(id: number | bigint, result: WriteResult): void {
		const { revision, changed, previous, number } = result;
		if (!changed || previous !== undefined || number !== undefined) {
			this.add(id, RESULT_FIELD.write, encodeWriteResult(result));
			return;
		}
		const writer = this.#writer;
		const body = 3 + varintSize(revision);
		writer.header(1, idSize(id) + 2 + body);
		writer.varint(ID, id);
		writer.header(RESULT_FIELD.write, body);
		writer.varint(1, revision);
		writer.varint(2, true);
		this.#added();
	}

	/** A write whose expectation, or transaction some of whose, did not hold. `checks` are of `FailedCheck`. */
	addFailed(id: number | bigint, error: Uint8Array, checks: readonly Uint8Array[]): void {
		const result = new WireWriter(error.byteLength + 64);
		result.varint(ID, id);
		result.bytes(RESULT_FIELD.error, error);
		for (const check of checks) result.bytes(FAILED_CHECKS, check);
		this.#writer.bytes(1, result.finish());
		this.#added();
	}

	/** The oldest frame of results as a `PipelineResponse`. */
	take(): Encoded | undefined {
		if (this.#frames.length === 0) {
			if (this.#inFrame === 0) return undefined;
			this.#close();
		}
		const { frame, results } = this.#frames.shift()!;
		this.#closedResults -= results;
		this.#closedBytes -= frame.byteLength;
		return frame;
	}

	#splice(body: Uint8Array): void {
		this.#parts.push(this.#writer.finish(), body);
		this.#partBytes += this.#writer.length + body.byteLength;
		this.#writer = new WireWriter();
	}

	#added(): void {
		this.#inFrame++;
		if (this.#inFrame >= FRAME_RESULTS || this.#partBytes + this.#writer.length >= FRAME_BYTES) this.#close();
	}

	#close(): void {
		if (this.#writer.length > 0) this.#parts.push(this.#writer.finish());
		const header = new WireWriter(16);
		header.header(RESULTS, this.#partBytes + this.#writer.length);
		const frame = new Encoded([header.finish(), ...this.#parts]);
		this.#frames.push({ frame, results: this.#inFrame });
		this.#closedResults += this.#inFrame;
		this.#closedBytes += frame.byteLength;
		this.#parts = [];
		this.#partBytes = 0;
		// The next frame is about as large: a buffer that grows to it would be made several times over.
		this.#writer = new WireWriter(this.#writer.length + 64);
		this.#inFrame = 0;
	}
}

function idSize(id: number | bigint): number {
	if (typeof id === "number") return 1 + varintSize(id);
	let size = 2;
	for (let rest = id >> 7n; rest > 0n; rest >>= 7n) size++;
	return size;
}
