import type { KvChange, KvWrite } from "../kv-store.ts";
import { type BytePiece, pieceBytes } from "./byte-chunks.ts";
import { kvValue } from "./kv-record.ts";

/** What is stored, or was, and where its bytes are. */
export interface KnownRecord {
	/** 0: nothing is stored. */
	readonly revision: number;
	readonly createRevision: number;
	/** Undefined: nothing is stored, or nobody asked for the bytes. */
	readonly bytes: BytePiece | undefined;
}

/**
 * A change whose values are views that are made when somebody asks: some hundred thousand changes are kept, and of most nobody
 * ever does.
 */
export class StoredChange implements KvChange {
	readonly key: string;
	readonly revision: number;
	readonly createRevision: number;
	readonly oldRevision: number;
	readonly lastOfCommit: boolean;
	readonly note: Uint8Array | undefined;
	readonly #bytes: BytePiece | undefined;
	readonly #oldBytes: BytePiece | undefined;

	/** `now`: with no bytes where the write deletes. */
	constructor(write: KvWrite, old: KnownRecord, now: KnownRecord, lastOfCommit: boolean) {
		this.key = write.key;
		this.revision = now.revision;
		this.createRevision = now.createRevision;
		this.oldRevision = old.revision;
		this.lastOfCommit = lastOfCommit;
		// A copy, because the caller may use its buffer again.
		this.note = write.value === undefined && write.note !== undefined ? Buffer.from(write.note) : undefined;
		this.#bytes = now.bytes;
		this.#oldBytes = old.bytes;
	}

	get value(): Uint8Array | undefined {
		return this.#bytes && kvValue(pieceBytes(this.#bytes));
	}

	get oldValue(): Uint8Array | undefined {
		return this.#oldBytes && kvValue(pieceBytes(this.#oldBytes));
	}

	get size(): number {
		return (
			this.key.length +
			lengthOf(this.#bytes) +
			lengthOf(this.#oldBytes) +
			(this.note === undefined ? 0 : this.note.byteLength)
		);
	}
}

function lengthOf(bytes: BytePiece | undefined): number {
	return bytes === undefined ? 0 : bytes.end - bytes.start;
}
