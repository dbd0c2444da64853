import { Disposition } from "#gen/qirvo/hub/v1/messaging_service_pb.js";
import type { AcceptedMessage } from "../messaging/accepted-message.ts";
import { stringSize } from "../wire/string-size.ts";
import { varintSize } from "../wire/varint.ts";
import { WireWriter } from "../wire/wire-writer.ts";
import { Encoded } from "./call.ts";

/** `SendResponse` in wire form. */
export function encodeAccepted(accepted: AcceptedMessage): Uint8Array {
	const writer = new WireWriter(accepted.id.length * 3 + 32);
	writeAccepted(writer, accepted);
	return writer.finish();
}

function writeAccepted(writer: WireWriter, { id, disposition, duplicate }: AcceptedMessage): void {
	writer.string(1, id);
	writer.varint(2, disposition === "delivered" ? Disposition.DELIVERED : Disposition.QUEUED);
	if (duplicate) writer.varint(3, true);
}

/** `RequestResponse` in wire form; `content` is a `ReplyContent` and is copied. */
export function encodeReply(id: string, content: Uint8Array, source: string): Uint8Array {
	const writer = new WireWriter(content.byteLength + (id.length + source.length) * 3 + 64);
	writer.string(1, id);
	writer.bytes(2, content);
	writer.string(3, source);
	return writer.finish();
}

/** Fields of `SendResult.outcome`. */
const OUTCOME_FIELD = { accepted: 2, reply: 3, error: 4 } as const;

/** What one frame of results holds at most; the last result may go over. */
const FRAME_RESULTS = 1000;
const FRAME_BYTES = 256 * 1024;

/** Room that a frame begins with at most; it is as much as the one before had. */
const FIRST_BYTES = 32 * 1024;

/** Results on their way down, gathered into frames. Bounded by whoever adds them. */
export class SendResults {
	readonly #frames: { readonly frame: Encoded; readonly results: number }[] = [];
	/** Undefined while there is nothing for the next frame. */
	#writer: WireWriter | undefined;
	#lastBytes = 0;
	#inFrame = 0;
	#closedResults = 0;
	#closedBytes = 0;

	/** Results waiting. */
	get size(): number {
		return this.#closedResults + this.#inFrame;
	}

	/** Their bytes. */
	get bytes(): number {
		return this.#closedBytes + (this.#writer?.length ?? 0);
	}

	add(entryId: number | bigint, outcome: keyof typeof OUTCOME_FIELD, body: Uint8Array): void {
		const writer = this.#open();
		const { byteLength } = body;
		writer.header(1, 1 + bigVarintSize(entryId) + 1 + varintSize(byteLength) + byteLength);
		writer.varint(1, entryId);
		writer.bytes(OUTCOME_FIELD[outcome], body);
		this.#added(writer);
	}

	/** The same as `add` of what `encodeAccepted` gives. */
	addAccepted(entryId: number | bigint, accepted: AcceptedMessage): void {
		const writer = this.#open();
		const bytes = 2 + (accepted.duplicate ? 2 : 0) + stringSize(accepted.id);
		writer.header(1, 1 + bigVarintSize(entryId) + 1 + varintSize(bytes) + bytes);
		writer.varint(1, entryId);
		writer.header(OUTCOME_FIELD.accepted, bytes);
		writeAccepted(writer, accepted);
		this.#added(writer);
	}

	#open(): WireWriter {
		this.#writer ??= new WireWriter(Math.min(Math.max(this.#lastBytes, 512), FIRST_BYTES));
		return this.#writer;
	}

	#added(writer: WireWriter): void {
		this.#inFrame++;
		if (this.#inFrame >= FRAME_RESULTS || writer.length >= FRAME_BYTES) this.#close(writer);
	}

	/** The oldest frame of results as a `SendStreamResponse`. */
	take(): Encoded | undefined {
		if (this.#frames.length === 0) {
			if (this.#writer === undefined) return undefined;
			this.#close(this.#writer);
		}
		const { frame, results } = this.#frames.shift()!;
		this.#closedResults -= results;
		this.#closedBytes -= frame.byteLength;
		return frame;
	}

	#close(writer: WireWriter): void {
		const batch = writer.finish();
		const header = new WireWriter(16);
		header.header(2, batch.byteLength);
		const frame = new Encoded([header.finish(), batch]);
		this.#frames.push({ frame, results: this.#inFrame });
		this.#closedResults += this.#inFrame;
		this.#closedBytes += frame.byteLength;
		this.#writer = undefined;
		this.#lastBytes = batch.byteLength;
		this.#inFrame = 0;
	}
}

function bigVarintSize(value: number | bigint): number {
	if (typeof value === "number") return varintSize(value);
	let size = 1;
	for (let rest = value >> 7n; rest > 0n; rest >>= 7n) size++;
	return size;
}
